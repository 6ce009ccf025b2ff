"""Images fetched from the web: concurrent, polite, resumable, and safe against hostile addresses and bodies.

`addresses` says what may be asked, `client` asks once, `politeness` says when, `verify` says what is an image,
`journal` remembers, `download` runs it all, and `stage` is the command.
"""
