"""Ways in for other systems: each module is for one of them, and needs it installed.

`pip install 'matloop[adapters]'`. docs/labs.md has an example of each.
"""
