"""Bundles as rows of a SQLCipher 4 database, for ``[store] encryption = "sqlcipher"``.

``database`` opens and makes one, ``writer`` appends, ``seal`` finishes a bundle, ``rows``
reads, ``erase`` deletes so that nothing is left. A bundle there is what a bundle of
plain files is: the same frames of whole lines, the same bytes of a sidecar.
"""
