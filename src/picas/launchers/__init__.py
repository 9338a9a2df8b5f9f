"""Ways to start pilots where the machines are: one file per batch system, the same small interface (`base.Launcher`)."""
