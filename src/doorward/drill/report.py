"""The report."""
from doorward.drill.results import DrillResult
def page(result: DrillResult) -> str:
    return result.command
