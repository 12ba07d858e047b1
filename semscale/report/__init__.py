"""What people look at: figures of curves and confusions, and the HTML report of a run directory."""
