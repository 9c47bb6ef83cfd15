"""Files and their links through the official client: uploads, contents, links, and files as evidence."""

from __future__ import annotations

import asyncio
import io
import time
from typing import Any

import httpx
import psycopg
import pytest
import stripe
import uvloop

from ledger.files.storage import FileStorage
from ledger.postgres.connections import Pool
from tests.api.service import (
    Account,
    Caller,
    Registrar,
    Service,
    assert_refused,
    create_client,
    ok,
    read_stored_replies,
)
from tests.contract import rows

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
JPEG = b"\xff\xd8\xff\xe0" + bytes(64)
MEGABYTE = 1024 * 1024


def pdf(pages: int) -> bytes:
    """A PDF of empty pages, with its cross-reference table."""
    kids = " ".join(f"{number + 3} 0 R" for number in range(pages))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {pages}>>"]
    objects += ["<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"] * pages
    document, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, start=1):
        places.append(len(document))
        document += f"{number} 0 obj{text}endobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return (
        document
        + (
            end + f"trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(document)}\n%%EOF"
        ).encode()
    )


def upload(caller: Caller, content: bytes = PNG, name: str = "a.png", **fields: Any) -> httpx.Response:
    return caller.http.post(
        "/v1/files",
        files={"file": (name, content)},
        data={"purpose": "dispute_evidence", **fields},
        headers={"authorization": f"Bearer {caller.key}"},
    )


def attach(caller: Caller, content: bytes, **fields: Any) -> httpx.Response:
    file = ok(upload(caller, content, **fields))
    return caller.post(
        f"/v1/disputes/{caller.dispute()['id']}", {"evidence[receipt]": file["id"], "submit": "false"}
    )


def test_the_module_uploads_a_file_object(configured: Account, tmp_path: Any) -> None:
    path = tmp_path / 'my "best" receipt ☂.png'
    path.write_bytes(PNG)
    with path.open("rb") as opened:
        file = stripe.File.create(purpose="dispute_evidence", file=opened)
    assert (file.object, file.purpose, file.size, file.type) == ("file", "dispute_evidence", len(PNG), "png")
    assert file.filename == "my %22best%22 receipt ☂.png"
    assert (file.expires_at, file.title) == (None, None)
    assert file.links is not None
    assert (list(file.links.data), file.links.url) == ([], f"/v1/file_links?file={file.id}")
    assert "livemode" not in file
    assert stripe.File.retrieve(file.id) == file
    assert stripe.File.list(purpose="dispute_evidence").data == [file]
    assert stripe.File.list(purpose="selfie").data == []
    assert file.url is not None
    got = httpx.get(file.url, auth=(configured.secret, ""))
    assert (got.content, got.headers["content-type"]) == (PNG, "image/png")


@pytest.mark.contract("4.2 none")
def test_a_client_creates_updates_and_expands_links(client: stripe.StripeClient, raw: Caller) -> None:
    file = client.v1.files.create({"purpose": "dispute_evidence", "file": io.BytesIO(b"abc")})
    assert (file.filename, file.type, file.size) == ("blob", "txt", 3)
    link = client.v1.file_links.create({"file": file.id, "metadata": {"a": "1"}})
    assert (link.object, link.file, link.expired, link.expires_at) == ("file_link", file.id, False, None)
    assert link.url is not None
    assert httpx.get(link.url).content == b"abc"  # without a key
    shown = client.v1.file_links.retrieve(link.id, {"expand": ["file"]})
    assert isinstance(shown.file, stripe.File)
    assert shown.file.links is not None
    assert shown.file.links.data[0].url == link.url == shown.url
    later = int(time.time()) + 3600
    updated = client.v1.file_links.update(link.id, {"expires_at": later, "metadata": {"b": "2"}})
    assert (updated.expires_at, updated.url) == (later, link.url)
    assert updated.metadata.to_dict() == {"a": "1", "b": "2"}
    ended = client.v1.file_links.update(link.id, {"expires_at": "now"})
    assert ended.expired
    assert httpx.get(link.url).status_code == 404
    assert client.v1.file_links.list({"expired": False}).data == []
    assert [each.id for each in client.v1.file_links.list({"expired": True, "file": file.id})] == [link.id]
    with pytest.raises(stripe.InvalidRequestError, match="can no longer be updated"):
        client.v1.file_links.update(link.id, {"expires_at": ""})
    assert raw.events() == []


def test_the_async_client_uploads_too(service: Service, account: Account) -> None:
    client = create_client(service, account.secret, http_client=stripe.HTTPXClient())
    made = client.v1.files.create_async({"purpose": "pci_document", "file": io.BytesIO(JPEG)})
    assert asyncio.run(made).type == "jpg"


def test_a_link_is_created_together_with_the_file(raw: Caller) -> None:
    wanted: Any = {"file_link_data[create]": "true", "file_link_data[metadata][a]": "1"}
    made = ok(upload(raw, **wanted))
    (link,) = made["links"]["data"]
    assert link["metadata"] == {"a": "1"}
    assert httpx.get(link["url"]).content == PNG
    assert ok(raw.get(f"/v1/files/{made['id']}")) == made
    assert ok(raw.get(f"/v1/file_links?file={made['id']}"))["data"] == [link]
    past: Any = {"file_link_data[create]": "true", "file_link_data[expires_at]": "1"}
    assert_refused(upload(raw, **past), param="file_link_data[expires_at]")
    unwanted: Any = {"file_link_data[create]": "false"}
    assert ok(upload(raw, **unwanted))["links"]["data"] == []


def test_a_link_expires_by_the_clock(raw: Caller) -> None:
    file = ok(upload(raw))
    form = {"file": file["id"], "expires_at": int(time.time()) + 2}
    link = ok(raw.post("/v1/file_links", form))
    assert httpx.get(link["url"]).status_code == 200
    time.sleep(2.1)
    assert httpx.get(link["url"]).status_code == 404
    assert ok(raw.get(f"/v1/file_links/{link['id']}"))["expired"]


def test_the_file_of_a_link_in_a_files_list_of_links_is_expanded(raw: Caller) -> None:
    wanted: Any = {"file_link_data[create]": "true", "expand[]": "links.data.file"}
    answer = upload(raw, **wanted)
    made = ok(answer)
    (link,) = made["links"]["data"]
    assert link["file"]["id"] == made["id"]
    assert httpx.get(link["url"]).content == PNG
    plain = ok(raw.get(f"/v1/files/{made['id']}"))
    assert plain["links"]["data"][0]["file"] == made["id"]
    (shown,) = ok(raw.get(f"/v1/files/{made['id']}?expand[]=links.data.file"))["links"]["data"]
    assert shown["file"] == plain
    (listed,) = ok(raw.get("/v1/files?expand[]=data.links.data.file"))["data"]
    assert listed["links"]["data"] == [shown]
    assert ok(raw.get(f"/v1/files/{made['id']}?expand[]=links&expand[]=links.data")) == plain
    too_deep = raw.get(f"/v1/files/{made['id']}?expand[]=links.data.file.links.data")
    assert_refused(too_deep, message="more than 4 levels")
    assert_refused(
        raw.get(f"/v1/files/{made['id']}?expand[]=links.data.metadata"), message="cannot be expanded"
    )


def test_a_forged_url_serves_nothing(raw: Caller) -> None:
    file = ok(upload(raw))
    url = ok(raw.post("/v1/file_links", {"file": file["id"]}))["url"]
    last = "a" if url[-1] != "a" else "b"
    for forged in (url[:-1] + last, url.rpartition(".")[0], url.rpartition("/")[0] + "/" + file["id"]):
        assert_refused(httpx.get(forged), 404)


def test_what_is_served_cannot_run_on_our_origin(raw: Caller) -> None:
    file = ok(upload(raw, b"<script>alert(1)</script>", name="page.html"))
    got = raw.get(f"/v1/files/{file['id']}/contents")
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-security-policy"].startswith("sandbox")
    assert got.headers["request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (PNG, "a.pdf", "png"),
        (JPEG, "a.png", "jpg"),
        (pdf(1), "a.csv", "pdf"),
        (b"a,b\n1,2\n", "a.csv", "csv"),
        (b"a,b\n1,2\n", "a.pdf", "txt"),
        (b"\0\1\2", "a.jpg", None),
        (b"", "a.pdf", None),
    ],
)
def test_the_type_follows_from_the_contents(raw: Caller, content: bytes, name: str, kind: str | None) -> None:
    file = ok(upload(raw, content, name))
    assert (file["type"], file["size"], file["filename"]) == (kind, len(content), name)
    assert raw.get(f"/v1/files/{file['id']}/contents").content == content


@pytest.mark.parametrize("size", [262_143, 262_144, 262_145, 3 * MEGABYTE + 7])
def test_contents_of_any_size_come_back_unchanged(raw: Caller, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"\r\n--" * 64
    file = ok(upload(raw, content[:size]))
    assert raw.get(f"/v1/files/{file['id']}/contents").content == content[:size]


@pytest.mark.contract("2.9 missing file, bad purpose")
def test_malformed_uploads_are_refused(raw: Caller) -> None:
    assert_refused(
        raw.post("/v1/files", {"purpose": "dispute_evidence"}), code="parameter_missing", param="file"
    )
    assert_refused(raw.post("/v1/files", {"purpose": "pci_document", "file": "x"}), param="file")
    assert_refused(upload(raw, purpose="nonsense"), param="purpose", message="must be one of")
    assert_refused(upload(raw, nonsense="1"), code="parameter_unknown", param="nonsense")
    headers = {"authorization": f"Bearer {raw.key}"}
    send = raw.http.post
    answer = send("/v1/files", files={"other": ("a", b"x")}, data={"purpose": "x"}, headers=headers)
    assert_refused(answer, code="parameter_unknown", param="other")
    twice = [("file", ("a", b"x")), ("file", ("b", b"y"))]
    assert_refused(
        send("/v1/files", files=twice, data={"purpose": "pci_document"}, headers=headers), param="file"
    )
    headers["content-type"] = "multipart/form-data; boundary=b"
    cut = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
    assert_refused(send("/v1/files", content=cut, headers=headers), message="last boundary")
    assert_refused(send("/v1/files", content=b"nothing", headers=headers), message="last boundary")
    assert_refused(send("/v1/files", content=b"--b\r\n\r\nx", headers=headers), message="has no name")
    for boundary, message in (("", "has no boundary"), (f"; boundary={'b' * 257}", "boundary is too long")):
        headers["content-type"] = f"multipart/form-data{boundary}"
        assert_refused(send("/v1/files", content=cut, headers=headers), message=message)


PART = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + PNG


@pytest.mark.parametrize(
    "start",
    [b"--b\r\n", b"\r\n--b\r\n", b"--b \t\r\n", b"A preamble\r\nof --b lines\r\n--b\r\n"],
    ids=["no preamble", "empty line", "blanks", "preamble"],
)
@pytest.mark.contract("9 preamble and blanks of a multipart body")
def test_a_preamble_and_blanks_after_a_boundary_are_accepted(raw: Caller, start: bytes) -> None:
    purpose = b'Content-Disposition: form-data; name="purpose"\r\n\r\ndispute_evidence\r\n--b  \r\n'
    body = start + purpose + PART + b"\r\n--b-- \r\nAn epilogue"
    headers = {"content-type": "multipart/form-data; boundary=b", "authorization": f"Bearer {raw.key}"}
    for chunks in ([body], [body[n : n + 1] for n in range(len(body))]):
        file = ok(raw.http.post("/v1/files", content=iter(chunks), headers=headers))
        assert raw.get(f"/v1/files/{file['id']}/contents").content == PNG


def test_a_preamble_has_a_limit(raw: Caller) -> None:
    headers = {"content-type": "multipart/form-data; boundary=b", "authorization": f"Bearer {raw.key}"}
    answer = raw.http.post("/v1/files", content=b"x" * 70_000 + b"\r\n--b\r\n", headers=headers)
    assert_refused(answer, message="no boundary in its first 65536 bytes")


@pytest.mark.parametrize(
    ("parameter", "filename"),
    [
        ("filename*=UTF-8''na%C3%AFve%20a.png", "naïve a.png"),
        ("filename*=utf-8'en'%e2%82%ac.png; filename=plain.png", "€.png"),
        ("filename=\"plain.png\"; filename*=ISO-8859-1''%A3.png", "£.png"),
        ("filename=\"plain.png\"; filename*=KOI8-R''%A3.png", "plain.png"),
        ("filename=\"plain.png\"; filename*=UTF-8''%FF.png", "plain.png"),
        ("filename=\"a; filename*=UTF-8''b.png\"", "a; filename*=UTF-8''b.png"),
    ],
)
@pytest.mark.contract("9 filename* of a multipart body")
def test_an_extended_filename_is_read(raw: Caller, parameter: str, filename: str) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\ndispute_evidence\r\n--b\r\n'
        b'Content-Disposition: form-data; name="file"; ' + parameter.encode() + b"\r\n\r\n" + PNG
    )
    headers = {"content-type": "multipart/form-data; boundary=b", "authorization": f"Bearer {raw.key}"}
    answer = raw.http.post("/v1/files", content=body + b"\r\n--b--\r\n", headers=headers)
    assert ok(answer)["filename"] == filename


def list_stored(service: Service) -> set[str]:
    """The ids of the files that are in the log or have contents, of all accounts."""
    with psycopg.connect(service.dsn) as conn:
        rows = conn.execute(
            "SELECT originator_id FROM ledger.events WHERE topic = 'file.uploaded' "
            "UNION SELECT file FROM ledger.file_chunks"
        ).fetchall()
    return {file for (file,) in rows}


def test_a_refused_upload_leaves_nothing_stored(service: Service, raw: Caller) -> None:
    before = list_stored(service)
    assert_refused(upload(raw, purpose="nonsense"), param="purpose")
    assert_refused(upload(raw, bytes(17 * MEGABYTE)), param="file", message="smaller than 16 MB")
    assert list_stored(service) <= before


def test_contents_are_encrypted_and_cannot_be_deleted(service: Service, raw: Caller) -> None:
    file = ok(upload(raw, b"what only the account may read"))
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        row = conn.execute("SELECT sealed FROM ledger.file_chunks WHERE file = %s", [file["id"]]).fetchone()
        assert row is not None
        assert b"account" not in row[0]
        for statement in ("DELETE FROM ledger.file_chunks WHERE file = %s",
                          "UPDATE ledger.file_chunks SET number = 9 WHERE file = %s"):  # fmt: skip
            with pytest.raises(psycopg.errors.RestrictViolation):
                conn.execute(statement, [file["id"]])


def test_only_contents_that_a_crash_left_are_deleted(service: Service, raw: Caller) -> None:
    file = ok(upload(raw))["id"]
    with psycopg.connect(service.dsn, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO ledger.file_chunks (file, number, sealed, stored_at) SELECT file, number, '', "
            "now() - age FROM (VALUES ('file_left', 0, interval '2 days'), "
            "('file_left', 1, interval '2 days'), "
            "('file_under_way', 0, interval '1 hour')) AS chunks (file, number, age)"
        )

        async def sweep() -> None:
            async with Pool(service.dsn) as pool:
                await FileStorage(pool, b"any key").delete_orphans()

        uvloop.run(sweep())
        kept = conn.execute("SELECT DISTINCT file FROM ledger.file_chunks").fetchall()
        conn.execute("DELETE FROM ledger.file_chunks WHERE file = 'file_under_way'")
    assert ("file_left",) not in kept
    assert {("file_under_way",), (file,)} <= set(kept)


def test_fifty_megabytes_are_refused_early_with_an_error(client: stripe.StripeClient, raw: Caller) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="too large") as refusal:
        client.v1.files.create({"purpose": "pci_document", "file": io.BytesIO(bytes(50 * MEGABYTE))})
    assert refusal.value.param == "file"

    sent = 0

    def endless() -> Any:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        while sent < 50 * MEGABYTE:
            sent += MEGABYTE
            yield bytes(MEGABYTE)

    headers = {"authorization": f"Bearer {raw.key}", "content-type": "multipart/form-data; boundary=b"}
    assert_refused(
        raw.http.post("/v1/files", content=endless(), headers=headers), param="file", message="large"
    )


def test_the_same_key_with_the_same_bytes_is_one_file(
    service: Service, client: Any, account: Account
) -> None:
    params: Any = {"purpose": "dispute_evidence", "file_link_data": {"create": True}}
    options: Any = {"idempotency_key": f"upload-{time.time()}"}
    before = list_stored(service)
    first = client.v1.files.create(params | {"file": io.BytesIO(PNG)}, options)
    again = client.v1.files.create(params | {"file": io.BytesIO(PNG)}, options)
    assert again == first
    assert first.links.data[0].url
    assert again.last_response.headers["idempotent-replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError):
        client.v1.files.create(params | {"file": io.BytesIO(JPEG)}, options)
    assert list_stored(service) - before == {first.id}
    stored = read_stored_replies(service, account.id)[options["idempotency_key"]]
    assert first.id in stored
    assert first.links.data[0].url.rpartition(".")[2] not in stored  # who reads the table learns no URL


def test_the_reply_of_a_link_is_stored_without_its_digits_and_replayed_with_them(
    service: Service, raw: Caller, account: Account
) -> None:
    file = ok(upload(raw))["id"]
    form = {"file": file, "expand[]": "file"}
    made = raw.post("/v1/file_links", form, idempotency_key="made")
    path = f"/v1/file_links/{ok(made)['id']}"
    changed = raw.post(path, {"metadata[a]": "1", "expand[]": "file"}, idempotency_key="changed")
    link, url = ok(changed), ok(made)["url"]
    assert link["url"] == url
    assert link["file"]["url"].endswith(f"/v1/files/{file}/contents")
    assert link["file"]["links"]["data"][0]["url"] is None, "an answer that is stored holds one secret"
    shown = ok(raw.get(f"{path}?expand[]=file"))
    assert shown["file"]["links"]["data"][0]["url"] == shown["url"] == url
    stored = read_stored_replies(service, account.id)
    assert sorted(stored) == ["changed", "made"]
    for body in stored.values():
        assert url.rpartition(".")[2] not in body
        assert link["id"] in body
    for answer, again in (
        (made, raw.post("/v1/file_links", form, idempotency_key="made")),
        (changed, raw.post(path, {"metadata[a]": "1", "expand[]": "file"}, idempotency_key="changed")),
    ):
        assert again.headers["idempotent-replayed"] == "true"
        assert again.content == answer.content


def test_a_file_has_its_url_wherever_it_is_expanded(raw: Caller) -> None:
    file = ok(upload(raw))
    dispute = raw.dispute()["id"]
    ok(raw.post(f"/v1/disputes/{dispute}", {"evidence[receipt]": file["id"], "submit": "false"}))
    within = "source.evidence.receipt"
    shown = ok(raw.get(f"/v1/disputes/{dispute}?expand[]=balance_transactions.{within}"))
    transaction = shown["balance_transactions"][0]
    assert transaction["source"]["evidence"]["receipt"] == file
    retrieved = ok(raw.get(f"/v1/balance_transactions/{transaction['id']}?expand[]={within}"))
    assert retrieved["source"]["evidence"]["receipt"] == file
    path = f"/v1/balance_transactions?source={dispute}&expand[]=data.{within}"
    assert ok(raw.get(path))["data"] == [retrieved]
    form = {"metadata[a]": "1", "expand[]": f"balance_transactions.{within}"}
    updated = ok(raw.post(f"/v1/disputes/{dispute}", form))
    assert updated["balance_transactions"][0]["source"]["evidence"]["receipt"] == file


def test_files_and_links_belong_to_one_account_and_mode(
    raw: Caller, live: Caller, registrar: Registrar
) -> None:
    file = ok(upload(raw))
    link = ok(raw.post("/v1/file_links", {"file": file["id"]}))
    stranger = Caller(raw.http, registrar.account().secret)
    for path in (
        f"/v1/files/{file['id']}",
        f"/v1/files/{file['id']}/contents",
        f"/v1/file_links/{link['id']}",
    ):
        assert_refused(stranger.get(path), 404, code="resource_missing", param="id")
        assert_refused(
            live.get(path), 404, code="resource_missing", param="id", message="exists in test mode"
        )
    assert_refused(
        stranger.post("/v1/file_links", {"file": file["id"]}), code="resource_missing", param="file"
    )
    assert_refused(stranger.get(f"/v1/file_links?file={file['id']}"), code="resource_missing", param="file")
    evidence = {"evidence[receipt]": file["id"]}
    dispute = stranger.dispute()["id"]
    answer = stranger.post(f"/v1/disputes/{dispute}", evidence)
    assert_refused(answer, code="resource_missing", param="evidence[receipt]")


def test_files_and_links_need_one_permission(raw: Caller, account: Account, registrar: Registrar) -> None:
    file = ok(upload(raw))
    reader = Caller(raw.http, registrar.key(account.id, "rk", scopes=["rak_file_read"])[1])
    assert ok(reader.get("/v1/files"))["data"] == [file]
    assert ok(reader.get("/v1/file_links"))["data"] == []
    assert reader.get(f"/v1/files/{file['id']}/contents").content == PNG
    for answer in (upload(reader), reader.post("/v1/file_links", {"file": file["id"]})):
        assert_refused(answer, 403, code="more_permissions_required", message="rak_file_write")


@pytest.mark.contract("2.9 links for some purposes")
def test_only_files_of_some_purposes_have_links(raw: Caller) -> None:
    file = ok(upload(raw, purpose="identity_document"))
    assert_refused(raw.post("/v1/file_links", {"file": file["id"]}), param="file", message="purpose")
    assert_refused(raw.post("/v1/file_links", {"file": "file_x"}), code="resource_missing", param="file")
    past = {"file": ok(upload(raw))["id"], "expires_at": 1}
    assert_refused(raw.post("/v1/file_links", past), param="expires_at")
    assert_refused(raw.post("/v1/file_links", past | {"expires_at": "now"}), code="parameter_invalid_integer",
            param="expires_at")  # fmt: skip


def test_lists_page_through_files_and_links(client: stripe.StripeClient) -> None:
    made = [client.v1.files.create({"purpose": "pci_document", "file": io.BytesIO(b"x")}) for _ in range(5)]
    listed = [file.id for file in client.v1.files.list({"limit": 2}).auto_paging_iter()]
    assert listed == [file.id for file in made[::-1]]
    links = [client.v1.file_links.create({"file": made[0].id}) for _ in range(12)]
    listed = [link.id for link in client.v1.file_links.list({"limit": 5}).auto_paging_iter()]
    assert listed == [link.id for link in links[::-1]]
    shown = client.v1.files.retrieve(made[0].id).links
    assert shown is not None
    assert ([link.id for link in shown.data], shown.has_more) == (listed[:10], True)


@pytest.mark.contract("2.2 evidence file id", "2.2 expandable")
def test_evidence_names_files_and_expands_them(client: stripe.StripeClient, raw: Caller) -> None:
    file = client.v1.files.create({"purpose": "dispute_evidence", "file": io.BytesIO(pdf(49))})
    dispute = raw.dispute()["id"]
    given: Any = {"evidence": {"receipt": file.id, "refund_policy": file.id}, "submit": False}
    staged = client.v1.disputes.update(dispute, given | {"expand": ["evidence.receipt"]})
    assert (staged.evidence.receipt, staged.evidence.refund_policy) == (file, file.id)
    shown = client.v1.disputes.retrieve(dispute, {"expand": ["evidence.receipt", "charge.customer"]})
    assert shown.evidence.receipt == file
    listed = client.v1.disputes.list({"expand": ["data.evidence.receipt"]}).data[0]
    assert listed.evidence.receipt == file
    cleared = client.v1.disputes.update(dispute, {"evidence": {"receipt": ""}, "submit": False})
    assert cleared.evidence.receipt is None


@pytest.mark.parametrize("content", [PNG, JPEG, pdf(49), b"%PDF-1.4 which nobody can read"])
def test_a_file_that_may_be_evidence_is_accepted(raw: Caller, content: bytes) -> None:
    ok(attach(raw, content))


NO_EVIDENCE: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "empty": (b"", {}, "^The file you uploaded is not supported"),
    "content not PDF, JPEG or PNG": (
        b"abc",
        {"name": "a.pdf"},
        "^The file you uploaded is not supported",
    ),
    "PDF of 50 pages or more": (
        pdf(50),
        {},
        r"^The file you uploaded was too long. Please upload a file with fewer than 50 pages\.$",
    ),
    "file of another purpose": (PNG, {"purpose": "pci_document"}, "purpose"),
    "file over 5 MB": (
        PNG + bytes(5 * MEGABYTE - len(PNG) + 1),
        {},
        r"^The file you uploaded was too large. Please upload a file smaller than 5 MB\.$",
    ),
}


@rows("2.2", NO_EVIDENCE)
def test_a_file_that_may_not_be_evidence_is_refused(raw: Caller, row: str) -> None:
    content, fields, message = NO_EVIDENCE[row]
    assert_refused(attach(raw, content, **fields), param="evidence[receipt]", message=message)


def test_an_unknown_file_is_no_evidence(raw: Caller) -> None:
    dispute = raw.dispute()["id"]
    for file in ("file_x", dispute):
        answer = raw.post(f"/v1/disputes/{dispute}", {"evidence[uncategorized_file]": file})
        assert_refused(
            answer, code="resource_missing", param="evidence[uncategorized_file]", message="No such file"
        )
    card = "evidence[appeal][card][supporting_files]"
    answer = raw.post(f"/v1/disputes/{dispute}", {f"{card}[0]": "file_x"})
    assert_refused(answer, code="resource_missing", param=f"{card}[0]")


@pytest.mark.contract("2.2 files together too big")
def test_files_together_stay_under_five_megabytes(raw: Caller) -> None:
    file = ok(upload(raw, PNG + bytes(2_250_000 - len(PNG))))["id"]
    dispute = f"/v1/disputes/{raw.dispute()['id']}"
    ok(raw.post(dispute, {"evidence[receipt]": file, "evidence[refund_policy]": file, "submit": "false"}))
    more = ok(upload(raw, PNG + bytes(300_000 - len(PNG))))["id"]
    answer = raw.post(dispute, {"evidence[cancellation_policy]": more, "submit": "false"})
    assert_refused(
        answer, param="evidence", message="^Adding these files would bring the total evidence size over"
    )
    fits = {"evidence[cancellation_policy]": more, "evidence[receipt]": "", "submit": "false"}
    ok(raw.post(dispute, fits))
    whole = ok(upload(raw, PNG + bytes(5 * MEGABYTE - len(PNG))))["id"]  # alone it is not too large
    assert_refused(
        raw.post(dispute, {"evidence[receipt]": whole}), param="evidence", message="Adding these files"
    )
