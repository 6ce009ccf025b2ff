"""Models and ways of learning beyond the served one, each small and measured with an ablation."""
