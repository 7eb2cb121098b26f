"""Many configs and seeds trained side by side: plan, training, results, ensembles."""
