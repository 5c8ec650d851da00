"""The pure parts of jobs: hands, rates, windows, prompts, rendered lines."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from router.jobs.execution.answer import (
    ItemReply,
    UnreadableError,
    read,
    worth_another_try,
)
from router.jobs.execution.leased import LeasedItems
from router.jobs.execution.rates import JobThroughput
from router.jobs.input.prompts import merge_item, request, row_items
from router.jobs.model import (
    CHAT,
    DATASET_ENDPOINT,
    EMBEDDINGS,
    RESPONSES,
    Format,
    ItemFault,
    ItemKind,
    ItemResult,
    JobSpec,
    Preemption,
)
from router.jobs.output import openai_line, result_line
from router.jobs.planning.length_predictor import LengthPredictor
from router.jobs.spec import read_spec, spec_text
from router.jobs.window import WindowError, is_open, parse, shown
from tests.router.jobs.stage import MODEL, an_item, waiting


class TestHand:
    """What is in hand, and in which order it goes."""

    def test_merges_then_waves_then_the_heaviest(self):
        """Whatever order they came in."""
        leased = LeasedItems()
        leased.add(
            [
                waiting(1, weight=5.0),
                waiting(2, weight=9.0, wave=1),
                waiting(3, weight=7.0),
                waiting(4, kind=ItemKind.MERGE),
            ]
        )
        assert [4, 3, 1, 2] == [each.id for each in leased.ready(MODEL, 0.0)]

    def test_one_that_failed_waits_its_time(self):
        """And knows where it should not go."""
        leased, failed = LeasedItems(), waiting(1)
        failed.failed_on("one", not_before=10.0)
        leased.add([failed])
        assert [] == leased.ready(MODEL, 9.9)
        (pending,) = leased.ready(MODEL, 10.0)
        assert (frozenset({"one"}), 1) == (pending.avoid, failed.item.tries)
        failed.forgive()
        assert frozenset() == leased.ready(MODEL, 10.0)[0].avoid

    def test_one_that_was_taken_back_has_a_home_for_a_while(self):
        """The node whose cache has its text; then others may have used the slot."""
        leased, back = LeasedItems(), waiting(1)
        back.taken_back("one", 30.0, until=10.0)
        leased.add([back])
        (pending,) = leased.ready(MODEL, 9.9)
        assert ("one", 30.0) == (pending.home, pending.had)
        (pending,) = leased.ready(MODEL, 10.0)
        assert ("", 30.0) == (pending.home, pending.had)
        back.begins_anew()
        assert 0.0 == leased.ready(MODEL, 10.0)[0].had

    def test_taken_once(self):
        """And added once."""
        leased = LeasedItems()
        leased.add([waiting(1), waiting(1), waiting(2, model="other:latest")])
        assert (2, 1) == (len(leased), leased.count(ItemKind.ROW, MODEL))
        assert leased.take(1) is not None
        assert leased.take(1) is None
        assert ["other:latest"] == list(leased.models())
        assert [2] == leased.clear()
        assert 0 == len(leased)


class TestRates:
    """How fast a job goes."""

    def test_the_last_minute_counts(self):
        """Nothing is told in the first two seconds."""
        rates = JobThroughput()
        rates.count(100.0, 1, 10)
        assert rates.per_second(101.0) is None
        for second in range(1, 200):
            rates.count(100.0 + second, 2, 30)
        found = rates.per_second(299.0)
        assert found is not None
        items, tokens = found
        assert (2.0, 30.0) == (round(items, 1), round(tokens, 1))
        assert (0.0, 0.0) == rates.per_second(999.0)


def moment(text):
    """Give the unix seconds of `Mon 8:00` in a week."""
    day, _, clock = text.partition(" ")
    hour, minute = map(int, clock.split(":"))
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    date = datetime(2026, 11, 23 + days.index(day), hour, minute, tzinfo=UTC)
    return date.timestamp()


class TestWindow:
    """Times of day."""

    @pytest.mark.parametrize(
        ("text", "hour", "open_"),
        [
            ("20:00-06:00", 19, False),
            ("20:00-06:00", 20, True),
            ("20:00-06:00", 0, True),
            ("20:00-06:00", 6, False),
            ("09:00-17:00", 9, True),
            ("09:00-17:00", 17, False),
        ],
    )
    def test_it_may_pass_midnight(self, text, hour, open_):
        """The end is not within."""
        now = datetime(2026, 11, 24, hour, tzinfo=UTC).timestamp()
        assert open_ == is_open(parse(text, "UTC"), now)

    @pytest.mark.parametrize(
        ("text", "shown_", "open_", "shut"),
        [
            ("8:00-17:30", "08:00-17:30", ["Mon 8:00", "Sun 17:29"], ["Mon 7:59"]),
            ("Mon-Fri 20:00-6:00", "Mon-Fri 20:00-06:00",
             ["Mon 20:00", "Sat 5:59"], ["Mon 5:59", "Sat 20:00", "Sun 21:00"]),
            ("Sat, Sun", "Sat Sun 00:00-24:00", ["Sat 0:00", "Sun 23:59"],
             ["Fri 23:59"]),
            ("Mon-Fri 20:00-6:00, Sat, Sun", "Mon-Fri 20:00-06:00, Sat Sun 00:00-24:00",
             ["Thu 21:00", "Sat 12:00"], ["Thu 12:00"]),
            ("weekdays 8:00-12:00 13:00-17:00; sunday 10:00 \u2013 11:00",
             "Mon-Fri 08:00-12:00, Mon-Fri 13:00-17:00, Sun 10:00-11:00",
             ["Tue 9:00", "Tue 13:00", "Sun 10:30"], ["Tue 12:30", "Sat 9:00"]),
            ("Sun 23:00-1:00", "Sun 23:00-01:00", ["Sun 23:30", "Mon 0:30"],
             ["Mon 1:00"]),
            ("Fri-Mon", "Mon Fri Sat Sun 00:00-24:00", ["Fri 0:00", "Mon 3:00"],
             ["Tue 0:00"]),
            ("0:00-24:00", "00:00-24:00", ["Wed 0:00", "Wed 23:59"], []),
        ],
        ids=["short", "weekdays", "days", "nights and weekends", "several", "sunday",
             "over the weekend", "always"],
    )  # fmt: skip
    def test_days_of_the_week(self, text, shown_, open_, shut):
        """What passes midnight belongs to the day on which it begins."""
        window = parse(text, "UTC")
        assert shown_ == shown(window)
        assert window == parse(shown(window), "UTC")
        assert [True] * len(open_) == [is_open(window, moment(at)) for at in open_]
        assert [False] * len(shut) == [is_open(window, moment(at)) for at in shut]

    def test_a_window_of_an_older_release(self):
        """Its job has it still: each day, from minute to minute."""
        text = spec_text(spec()).replace(
            '"window":null', '"window":{"start":1200,"end":360,"zone":"UTC"}'
        )
        assert parse("20:00-06:00", "UTC") == read_spec(text).window

    def test_the_preemption_of_an_older_release(self):
        """A stored job has it under its old name and value."""
        text = spec_text(spec()).replace(
            '"preemption":"after_item"', '"give_way":"at_once"'
        )
        assert Preemption.IMMEDIATE is read_spec(text).preemption

    def test_the_zone_counts(self):
        """20:00 in Tokyo is 11:00 in UTC."""
        window = parse("20:00-21:00", "Asia/Tokyo")
        assert is_open(window, datetime(2026, 11, 24, 11, tzinfo=UTC).timestamp())
        assert "20:00-21:00" == shown(window)
        assert is_open(None, 0.0)

    @pytest.mark.parametrize(
        ("text", "zone", "param"),
        [
            ("8-9", "UTC", "window"),
            ("24:00-06:00", "UTC", "window"),
            ("20:00-20:00", "UTC", "window"),
            ("Mo 8:00-9:00", "UTC", "window"),
            ("Monkey", "UTC", "window"),
            ("Mon-", "UTC", "window"),
            ("Mon 8:60-9:00", "UTC", "window"),
            (" , ", "UTC", "window"),
            ("20:00-06:00", "../etc", "zone"),
            ("20:00-06:00", "", "zone"),
        ],
    )
    def test_nonsense_is_told(self, text, zone, param):
        """By the field that is wrong."""
        with pytest.raises(WindowError) as raised:
            parse(text, zone)
        assert param == raised.value.param


def spec(**terms):
    return JobSpec(DATASET_ENDPOINT, "file-1", Format.CSV, model=MODEL, **terms)


class TestPrompts:
    """Requests of rows and merges."""

    def test_a_row_asks_the_model(self):
        """With the system prompt and the options."""
        made = spec(system="be brief", options={"seed": 3})
        (item,) = row_items(made, LengthPredictor(), 4, 99, place=7, body=b"")
        assert ("4", 4, DATASET_ENDPOINT) == (item.key, item.index, item.endpoint)
        assert (7, 99, b"") == (item.place, item.size, item.body)
        assert {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "hello"},
            ],
            "stream": False,
            "options": {"seed": 3},
        } == orjson.loads(request(made, "hello", 0))

    def test_samples_differ_by_their_seeds(self):
        """Those that can make a majority go first."""
        made = spec(options={"seed": 3}, reducer={"kind": "vote", "samples": 3})
        items = row_items(made, LengthPredictor(), 2, 99, place=7, body=b"")
        assert ["2.0", "2.1", "2.2"] == [item.key for item in items]
        assert [6, 7, 8] == [item.index for item in items]
        assert [0, 0, 1] == [item.wave for item in items]
        bodies = [orjson.loads(request(made, "hello", sample)) for sample in range(3)]
        assert [3, 4, 5] == [body["options"]["seed"] for body in bodies]

    def test_a_merge_holds_its_texts_in_order(self):
        """Behind the prompt that was asked for."""
        made = spec(reducer={"kind": "tree", "prompt": "One of these:"})
        item = merge_item(made, "merge-1-0", 0, ["a", "b"])
        said = orjson.loads(item.body)["messages"][-1]["content"]
        assert "One of these:\n\n[1]\na\n\n[2]\nb" == said
        assert ItemKind.MERGE is item.kind


def reply(body, status=200):
    return ItemReply(status, body, "one", "id", 1.5, 9.0)


class TestAnswers:
    """Replies as results."""

    @pytest.mark.parametrize(
        ("endpoint", "body", "text"),
        [
            (CHAT, {"choices": [{"message": {"content": "hi"}}]}, "hi"),
            (CHAT, {"choices": [{"message": {"tool_calls": []}}]}, ""),
            ("/v1/completions", {"choices": [{"text": "hi"}]}, "hi"),
            (EMBEDDINGS, {"data": [{"embedding": [1]}]}, ""),
            (
                RESPONSES,
                {
                    "output": [
                        {"type": "reasoning", "summary": []},
                        {
                            "type": "message",
                            "content": [{"type": "output_text", "text": "hi"}],
                        },
                    ]
                },
                "hi",
            ),
            (RESPONSES, {"output": []}, ""),
            (DATASET_ENDPOINT, {"message": {"content": "hi"}}, "hi"),
        ],
    )
    def test_the_words_are_taken_out(self, endpoint, body, text):
        """By endpoint; the body stays as it came."""
        item = an_item()
        item = type(item)(
            **{f: getattr(item, f) for f in item.__slots__} | {"endpoint": endpoint}
        )
        data = orjson.dumps({**body, "usage": {"completion_tokens": 4}})
        result, timings = read(item, reply(data))
        assert (text, data, None) == (result.text, result.body, result.error)
        assert 4 == timings.generated_tokens == result.generated_tokens

    @pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"choices": []}'])
    def test_what_is_no_reply_is_no_result(self, body):
        """It is tried again."""
        with pytest.raises(UnreadableError):
            read(an_item(), reply(body))

    def test_a_refusal_is_final(self):
        """With the node's words."""
        result, _ = read(an_item(), reply(b'{"error": {"message": "no"}}', 400))
        assert ItemFault("request_failed", "no") == result.error

    @pytest.mark.parametrize(
        ("status", "again"), [(400, False), (404, False), (429, True), (500, True)]
    )
    def test_some_statuses_pass(self, status, again):
        """Those that speak of the moment."""
        assert again == worth_another_try(status)


class TestLines:
    """Output files."""

    def test_openais_line_keeps_the_reply(self):
        """Byte for byte, where it is JSON on one line."""
        body = b'{"id":"x","big":12345678901234567890}'
        made = ItemResult("7", ItemKind.ROW, 7, 'q"', 200, body, "", "one")
        found = openai_line("batch_1", made)
        assert body in found
        fields = orjson.loads(found)
        assert ("batch_req_1_7", 'q"', 200, None) == (
            fields["id"],
            fields["custom_id"],
            fields["response"]["status_code"],
            fields["error"],
        )

    @pytest.mark.parametrize(
        ("body", "shown_"),
        [(b'{"a":\n1}', {"a": 1}), (b"<html>\n", "<html>\n")],
        ids=["lines", "no json"],
    )
    def test_one_line_it_is(self, body, shown_):
        """Whatever a node sends."""
        made = ItemResult("7", ItemKind.ROW, 7, "q", 400, body, "", "one")
        found = openai_line("batch_1", made)
        assert 1 == found.count(b"\n")
        assert shown_ == orjson.loads(found)["response"]["body"]

    def test_what_never_ran_has_no_response(self):
        """But an error."""
        fault = ItemFault("batch_expired", "late")
        made = ItemResult("7", ItemKind.ROW, 7, "q", 0, b"", "", "", fault)
        fields = orjson.loads(openai_line("batch_1", made))
        assert (None, {"code": "batch_expired", "message": "late"}) == (
            fields["response"],
            fields["error"],
        )
        ours = orjson.loads(result_line("batch_1", made))
        assert ("cancelled", "batch_expired") == (ours["status"], ours["error"]["code"])
