"""What images are for: to be run, made smaller by what was read when they ran, put into stores and given back.

Promise: what runs in an image sees nothing of this machine but what it was given, and leaves nothing behind but what is
kept on purpose. Not here: reading images (`image`), mounting them (`mount`). Rules: docs/oci.md.
"""
