"""What handlers are given by name; the application provides the values.

They are ours, not the client's, so Litestar need not validate them.
"""

from __future__ import annotations

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from server.access.doorkeeper import Doorkeeper
from server.console.adapter_cards import AdapterCards
from server.console.adapter_jobs import AdapterJobs
from server.console.feed import Sources
from server.console.jobs import Jobs
from server.console.run_records import RunRecords
from server.console.sweeps import Sweeps
from server.console.trainings import Trainings
from server.console.uploads import Uploads
from server.engine.types import Engine
from server.monitoring.metrics import Metrics
from server.registrar import Registrar
from server.responses.store import ResponseStore
from server.settings import ServerSettings

ProvidedEngine = NamedDependency[SkipValidation[Engine]]
ProvidedSettings = NamedDependency[SkipValidation[ServerSettings]]
ProvidedResponses = NamedDependency[SkipValidation[ResponseStore]]
ProvidedMetrics = NamedDependency[SkipValidation[Metrics]]
ProvidedRegistrar = NamedDependency[SkipValidation[Registrar]]
ProvidedDoorkeeper = NamedDependency[SkipValidation[Doorkeeper]]
ProvidedDocument = NamedDependency[SkipValidation[bytes]]
ProvidedRecords = NamedDependency[SkipValidation[RunRecords]]
ProvidedJobs = NamedDependency[SkipValidation[Jobs]]
ProvidedTrainings = NamedDependency[SkipValidation[Trainings]]
ProvidedSweeps = NamedDependency[SkipValidation[Sweeps]]
ProvidedSources = NamedDependency[SkipValidation[Sources]]
ProvidedUploads = NamedDependency[SkipValidation[Uploads]]
ProvidedAdapterJobs = NamedDependency[SkipValidation[AdapterJobs]]
ProvidedAdapterCards = NamedDependency[SkipValidation[AdapterCards]]
