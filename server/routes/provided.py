"""What handlers are given by name; the application provides the values.

They are ours, not the client's, so Litestar need not validate them.
"""

from __future__ import annotations

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from server.engine.types import Engine
from server.metrics import Metrics
from server.registrar import Registrar
from server.settings import ServerSettings

ProvidedEngine = NamedDependency[SkipValidation[Engine]]
ProvidedSettings = NamedDependency[SkipValidation[ServerSettings]]
ProvidedMetrics = NamedDependency[SkipValidation[Metrics]]
ProvidedRegistrar = NamedDependency[SkipValidation[Registrar]]
ProvidedDocument = NamedDependency[SkipValidation[bytes]]
