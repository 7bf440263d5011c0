"""The parts of the bench, by the name that --only takes."""

import beside
import existing
import load
import many
import million
import publication

PARTS = {"load": load.run, "publication": publication.run, "beside": beside.run, "existing": existing.run, "million": million.run, "many": many.run}
