"""Processes that write to one event log and note what was acknowledged: what test_platform.py
starts, kills and counts."""

import random, time
from multiprocessing import get_context

BATCH = 20


def write(url, name, notes):
    "Append batches for ever; note the batch's name once the log has said that it is kept."
    from trending_now.platform.event_log import EventLog

    with EventLog(url) as log, open(notes, "a", buffering=1) as acknowledged:
        for number in range(10**9):
            batch = f"{name}-{number}"
            log.append(
                [
                    {"event_id": f"{batch}-{k}", "ts": number, "kind": "click", "unit": name}
                    for k in range(BATCH)
                ]
            )
            acknowledged.write(f"{batch}\n")


def open_once(url, answers):
    "Open a log, and so bring its database up to date; say what came of it."
    from trending_now.platform.event_log import EventLog

    try:
        with EventLog(url) as log:
            answers.put(log.count())
    except Exception as e:
        answers.put(repr(e))


def decide(url, name, entries):
    "Add entries to the audit log of a database, each about one experiment of its own."
    from trending_now.platform.event_log import EventLog
    from trending_now.platform.lifecycle import AuditLog

    with EventLog(url) as log:
        for number in range(entries):
            AuditLog(log).add(f"{name}-{number}", "draft", name, "because")


class Crowd:
    "So many processes that write at once; any of them can be killed, and another takes its place."

    def __init__(self, url, notes, size=8):
        self.context = get_context("forkserver")
        self.context.set_forkserver_preload(["trending_now.platform.event_log"])
        self.url, self.notes, self.chance, self.born = url, notes, random.Random(7), 0
        self.alive = [self.start() for _ in range(size)]

    def start(self):
        self.born += 1
        name = f"writer {self.born}"
        process = self.context.Process(
            target=write, args=(self.url, name, f"{self.notes}/{name}"), daemon=True
        )
        process.start()
        return process

    def kill_one(self):
        "End one of them as a power cut would, at a moment that nobody has chosen."
        time.sleep(self.chance.uniform(0.02, 0.3))
        victim = self.alive.pop(self.chance.randrange(len(self.alive)))
        victim.kill()
        victim.join()
        self.alive.append(self.start())

    def kill_all(self):
        for process in self.alive:
            process.kill()
        for process in self.alive:
            process.join()

    def promised(self):
        "Ids of all events that were said to be kept."
        batches = [
            line
            for note in self.notes.iterdir()
            for line in note.read_text().splitlines(keepends=True)
        ]
        whole = [line[:-1] for line in batches if line.endswith("\n")]
        return [f"{batch}-{k}" for batch in whole for k in range(BATCH)]
