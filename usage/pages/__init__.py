"""The admin's own pages, one file each; what they show is read by the modules beside this package."""
