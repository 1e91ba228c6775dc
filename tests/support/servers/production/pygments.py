"""Stands for a package of the tests, so that a server which a test starts cannot load it.

Django REST framework loads the package if it is there: in a tenth of a second of each start. No requirement of a server
brings it.
"""

raise ImportError("a server in production has no such package")
