"""One self-contained page about one run or several.

    from enas.report.page import report
    report(["ptb_orig_2026-11-25_10-00-00"], "report.html")

or `python -m enas.report --load_path RUN [RUN …] --output report.html`.
"""
