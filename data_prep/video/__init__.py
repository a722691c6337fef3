"""Video files: `files` finds them and reads their frames, `tracking` follows the persons in them and cuts them out."""
