"""The report of a sweep: one page that holds all it shows, for readers who have neither the project nor its store."""

from reliabit.evaluation.sweep_report.contents import Provenance, ReportedSweep, report_contents
from reliabit.evaluation.sweep_report.page import LIMIT, PAGE, report_page
from reliabit.evaluation.sweep_report.pictures import Asked, Illustrate, pictures_of, without_pictures

__all__ = [
    "LIMIT",
    "PAGE",
    "Asked",
    "Illustrate",
    "Provenance",
    "ReportedSweep",
    "pictures_of",
    "report_contents",
    "report_page",
    "without_pictures",
]
