"""From predictions to activation values: linear, quantile, posterior mean."""
