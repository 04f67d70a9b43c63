"""The commands of `addnorm`; each imports what it needs when it runs."""
