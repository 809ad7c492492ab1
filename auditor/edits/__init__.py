"""Source edits: what turns a remedy into a diff of the user's own file.

An edit is written only where it is certain to be right; else `NoEdit` says why. Edits are found in a concrete syntax
tree (libcst, the extra `fix`) and made as changes of the text, so that everything around them stays byte for byte.
Importing this package imports no libcst.
"""

from auditor.edits.changes import Change, NoEdit
from auditor.edits.suggestions import MISSING, Suggestions, available, edited

__all__ = ["MISSING", "Change", "NoEdit", "Suggestions", "available", "edited"]
