"""What does the import cost?"""

from questions import ask_child

test_import = ask_child("import")
