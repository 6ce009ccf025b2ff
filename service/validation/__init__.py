"""What both transports ask of a request before it becomes a domain value: one place, so that they refuse the same.

A transport brings a request as plain values (what JSON, a query string or a message holds, absent fields left out);
`queries` and `changes` make domain values of them, or raise InvalidFieldsError with every field at fault.
"""
