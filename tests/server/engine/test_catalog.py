"""The catalog follows the registry: what appears, changes, breaks and goes."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from adapters.base import Base
from adapters.errors import AdapterError
from adapters.manifest import SamplingDefaults, read_manifest
from adapters.registry import Registry
from server.engine.catalog import Catalog
from server.engine.errors import AdapterUnavailable, UnknownModel
from tests.server.engine.harness import Publish, until
from tests.tiny import random_adapter

pytestmark = pytest.mark.anyio


def catalog_of(base: Base, root: Path) -> Catalog:
    return Catalog(base, root, context_length=128, poll_interval_s=0.01)


def names(catalog: Catalog) -> list[str]:
    return [card.name for card in catalog.cards()]


async def test_the_base_comes_first_then_adapters_by_name(base: Base, publish: Publish) -> None:
    """The order is the same whatever was registered first."""
    publish("zebra", seed=1)
    publish("ant", seed=2)
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    assert names(catalog) == ["qwen3", "ant", "zebra"]


async def test_a_card_tells_what_the_manifest_tells(base: Base, publish: Publish) -> None:
    """Digest, rank, system prompt and sampling defaults are those of the adapter."""
    source = random_adapter(publish.sources / "poet", base.path, rank=3)
    Registry(publish.root).register(source, "plain", base, assume_base=True)
    plain = Registry(publish.root).get("plain")
    sampling = SamplingDefaults(temperature=0.3, max_tokens=100)
    told = msgspec.structs.replace(plain.manifest, system_prompt="作诗", sampling=sampling)
    (source / "adapter.json").write_bytes(told.encoded())
    entry = Registry(publish.root).register(source, "poet", base)
    assert read_manifest(entry.path) is not None
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    card = catalog.card("poet")
    assert (card.parent, card.digest, card.rank) == ("qwen3", entry.digest, 3)
    assert (card.system_prompt, card.sampling) == ("作诗", sampling)
    assert (card.state, card.context_length, card.created) == ("ready", 128, entry.created)
    assert catalog.card("qwen3").digest == base.ref.weights_sha256


async def test_the_base_stands_in_for_what_a_manifest_leaves_out(
    base: Base, publish: Publish
) -> None:
    """Value by value; an adapter's own come first, also where they are zero."""
    entry = publish("plain")
    own = SamplingDefaults(temperature=0.0, max_tokens=100)
    told = msgspec.structs.replace(entry.manifest, sampling=own)
    source = random_adapter(publish.sources / "own", base.path)
    (source / "adapter.json").write_bytes(msgspec.structs.replace(told, files=()).encoded())
    Registry(publish.root).register(source, "own", base)
    of_base = SamplingDefaults(temperature=0.6, top_k=20)
    catalog = Catalog(
        base, publish.root, context_length=128, poll_interval_s=0.01, sampling=of_base
    )
    await catalog.refresh()
    assert catalog.card("qwen3").sampling == of_base
    assert catalog.card("plain").sampling == of_base
    assert catalog.card("own").sampling == SamplingDefaults(
        temperature=0.0, max_tokens=100, top_k=20
    )


async def test_polling_sees_new_replaced_and_removed_names(base: Base, publish: Publish) -> None:
    """Also where the registry's directory does not exist at the start."""
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    assert names(catalog) == ["qwen3"]
    following = asyncio.create_task(catalog.follow())
    first = publish("poet", seed=1)
    await until(lambda: "poet" in names(catalog))
    assert catalog.card("poet").digest == first.digest
    second = publish("poet", seed=2)
    await until(lambda: catalog.card("poet").digest == second.digest)
    publish.remove("poet")
    await until(lambda: names(catalog) == ["qwen3"])
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following


async def test_an_unreadable_record_is_a_broken_card(base: Base, publish: Publish) -> None:
    """It is listed with its reason, refused, and disturbs no other name."""
    publish("good", seed=1)
    (publish.root / "names" / "bad.json").write_text("{")
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    assert names(catalog) == ["qwen3", "bad", "good"]
    assert catalog.card("bad").state == "broken"
    assert catalog.card("bad").reason
    with pytest.raises(AdapterUnavailable):
        await catalog.find("bad")
    assert (await catalog.find("good")).name == "good"


@pytest.mark.parametrize("field", ["weights_sha256", "template_sha256"])
async def test_an_adapter_of_another_base_is_broken(
    field: str, base: Base, publish: Publish
) -> None:
    """The reason says what differs; the tokens would mean something else to it."""
    publish("foreign")
    other = msgspec.structs.replace(
        base, ref=msgspec.structs.replace(base.ref, **{field: "0" * 64})
    )
    catalog = catalog_of(other, publish.root)
    await catalog.refresh()
    card = catalog.card("foreign")
    assert card.state == "broken"
    assert "trained" in card.reason


async def test_find_looks_again_before_it_says_no(base: Base, publish: Publish) -> None:
    """A name registered since the last reading is found at once; an unknown one is not."""
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    publish("fresh")
    assert (await catalog.find("fresh")).name == "fresh"
    assert await catalog.find("qwen3") is None
    with pytest.raises(UnknownModel):
        await catalog.find("nobody")


async def test_a_failure_to_load_marks_this_registration_only(base: Base, publish: Publish) -> None:
    """Registered anew with other content, the name is ready again."""
    first = publish("poet", seed=1)
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    catalog.mark_failed(first, "its file is damaged")
    assert catalog.card("poet").reason == "its file is damaged"
    with pytest.raises(AdapterUnavailable, match="damaged"):
        await catalog.find("poet")
    publish("poet", seed=2)
    await catalog.refresh()
    assert catalog.card("poet").state == "ready"


async def test_registering_the_same_content_again_is_a_second_chance(
    base: Base, publish: Publish
) -> None:
    """The advice for a damaged adapter is to register it again: that must help."""
    entry = publish("poet", seed=1)
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    catalog.mark_failed(entry, "its file was damaged")
    publish("poet", seed=1)
    await catalog.refresh()
    assert catalog.card("poet").state == "ready"


async def test_a_registry_that_cannot_be_read_keeps_what_was_known(
    base: Base, publish: Publish, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Serving goes on, the log says so once, and reading resumes."""
    publish("poet", seed=1)
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    publish("later", seed=2)

    def fail(*_: object) -> None:
        raise AdapterError("injected")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(Registry, "snapshot", fail)
        for _ in range(3):
            await catalog.refresh()
    assert names(catalog) == ["qwen3", "poet"]
    assert caplog.text.count("injected") == 1
    await catalog.refresh()
    assert names(catalog) == ["qwen3", "later", "poet"]


async def test_a_registry_that_is_gone_keeps_what_was_known(base: Base, publish: Publish) -> None:
    """As with a disk that is not mounted; one whose adapters were all removed is another matter."""
    publish("poet")
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    away = publish.root.rename(publish.root.with_name("away"))
    await catalog.refresh()
    assert names(catalog) == ["qwen3", "poet"]
    away.rename(publish.root)
    publish.remove("poet")
    await catalog.refresh()
    assert names(catalog) == ["qwen3"]


async def test_the_bases_name_means_the_base(base: Base, tmp_path: Path) -> None:
    """An adapter that was registered under it for another base does not take its place."""
    other = msgspec.structs.replace(base, name="other")
    publish = Publish(other, tmp_path / "registry", tmp_path / "sources")
    publish("qwen3")
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    assert names(catalog) == ["qwen3"]
    assert await catalog.find("qwen3") is None


async def test_what_cannot_be_read_for_a_moment_stays_and_is_read_again(
    base: Base, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known names are served on; a new one comes as soon as it can be read, without a change."""
    publish("known", seed=1)
    catalog = catalog_of(base, publish.root)
    await catalog.refresh()
    publish("new", seed=2)

    def too_many_files(*_: object, **__: object) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as lacking:
        lacking.setattr("adapters.entry.read_bytes", too_many_files)
        await catalog.refresh()
        assert catalog.card("known").state == "ready"
        assert await catalog.find("known") is not None
        assert catalog.card("new").state == "broken"
    await catalog.refresh()
    assert catalog.card("new").state == "ready"
