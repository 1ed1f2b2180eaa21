"""The derived architecture on its own: a folder with an `nn.Module` that needs torch alone, its weights and a picture.

    from enas.export.folder import export
    export("ptb_orig_2026-11-25_10-00-00", "my_cell")

or `python -m enas.export --load_path RUN --output DIR`.
"""
