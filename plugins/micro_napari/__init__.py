"""The napari plugin: one of the two faces of micro."""
