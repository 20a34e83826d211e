"""*Pipeline health*: the state of promgithub itself, from GitHub's request to the metrics; see docs/runbook.md."""

from deploy.grafana.model import Dashboard, DashboardRow, Panel, PanelKind, Query
from deploy.grafana.promql import quantiles

_RATE = "$__rate_interval"
_UP = {0: "down", 1: "up"}
_FULL = ((0.5, "yellow"), (0.8, "red"))
_OLD = ((60, "yellow"), (600, "red"))
_ANY = ((1, "red"),)

# Other programs have the same process metrics, so this selects promgithub's.
_OURS = "* on (job, instance) group_left () promgithub_build_info"

_VERDICT = DashboardRow(
    "Is all well?",
    [
        Panel(
            "Broker",
            "Down if any process reports that the broker accepts no deliveries. Runbook: The broker is away.",
            "short",
            [Query("min(promgithub_broker_up)", "broker")],
            PanelKind.NUMBER,
            ((1, "green"),),
            _UP,
            base="red",
            width=3,
        ),
        Panel(
            "Database",
            "Down if any processor cannot use the database. Runbook: The database is away.",
            "short",
            [Query("min(promgithub_database_up)", "database")],
            PanelKind.NUMBER,
            ((1, "green"),),
            _UP,
            base="red",
            width=3,
        ),
        Panel(
            "Lease holders",
            "Processors that expose the metrics about CI. It must be 1. Runbook: No processor exposes.",
            "short",
            [Query("sum(promgithub_exporter_leader)", "holders")],
            PanelKind.NUMBER,
            ((1, "green"), (2, "red")),
            base="red",
            width=3,
        ),
        Panel(
            "Queue filled",
            "Length of the queue, as a share of its maximum. Runbook: The queue grows.",
            "percentunit",
            [Query("max(promgithub_event_queue_depth) / max(promgithub_event_queue_capacity)", "filled")],
            PanelKind.NUMBER,
            _FULL,
            width=3,
        ),
        Panel(
            "Spool filled",
            "The fullest spool, as a share of its maximum; no value without a spool. Runbook: The spool fills.",
            "percentunit",
            [Query("max(promgithub_spool_bytes / (promgithub_spool_capacity_bytes > 0))", "filled")],
            PanelKind.NUMBER,
            _FULL,
            width=3,
        ),
        Panel(
            "Oldest held delivery",
            "Age of the oldest delivery that a processor holds. Runbook: The queue grows.",
            "s",
            [Query("max(promgithub_event_oldest_age_seconds)", "oldest")],
            PanelKind.NUMBER,
            _OLD,
            width=3,
        ),
        Panel(
            "Dead letters",
            "Deliveries in the dead-letter queue and dead letters in spools, until they are replayed or dropped. "
            "Runbook: Dead letters.",
            "short",
            [Query("max(promgithub_dead_letters) + sum(promgithub_spool_dead_letters)", "dead letters")],
            PanelKind.NUMBER,
            _ANY,
            width=3,
        ),
        Panel(
            "Not accepted",
            "Share of the requests that were refused. Runbook: First look.",
            "percentunit",
            [
                Query(
                    f'sum(rate(promgithub_webhook_requests_total{{outcome!~"accepted|spooled|pong"}}[{_RATE}]))'
                    f" / (sum(rate(promgithub_webhook_requests_total[{_RATE}])) > 0)",
                    "refused",
                )
            ],
            PanelKind.NUMBER,
            ((0.01, "yellow"), (0.1, "red")),
            width=3,
        ),
    ],
)

_RECEIVER = DashboardRow(
    "Receivers",
    [
        Panel(
            "Requests by outcome",
            "All outcomes except accepted, spooled and pong are refusals. GitHub does not redeliver by itself after "
            "shed, queue_full and broker_down.",
            "reqps",
            [Query(f"sum by (outcome) (rate(promgithub_webhook_requests_total[{_RATE}]))", "{{outcome}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Requests by event",
            "By the event in the request's header.",
            "reqps",
            [Query(f"sum by (event) (rate(promgithub_webhook_requests_total[{_RATE}]))", "{{event}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Time to the 202",
            "Time from receiving the headers of a delivery to answering 202. GitHub's timeout is 10 s.",
            "s",
            quantiles("promgithub_webhook_ack_seconds", "", _RATE),
            thresholds=((1, "yellow"), (9, "red")),
        ),
        Panel(
            "In flight",
            "Requests in progress. A receiver refuses more than MAX_IN_FLIGHT. Runbook: A receiver is saturated.",
            "short",
            [Query("promgithub_webhook_in_flight", "{{instance}}")],
            PanelKind.STACK,
        ),
        Panel(
            "In spools",
            "Deliveries on the receivers' own disks, because the broker did not accept them.",
            "short",
            [Query("promgithub_spool_deliveries", "{{instance}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Forwarded from spools",
            "Deliveries forwarded from spools to the broker.",
            "cps",
            [Query(f"sum by (instance) (rate(promgithub_spool_forwarded_total[{_RATE}]))", "{{instance}}")],
        ),
        Panel(
            "Spools against their capacity",
            "Bytes in the spools, and their maximum, over all receivers.",
            "bytes",
            [
                Query("sum(promgithub_spool_bytes)", "kept"),
                Query("sum(promgithub_spool_capacity_bytes)", "capacity"),
            ],
        ),
        Panel(
            "Oldest in a spool",
            "Age of the oldest delivery in a spool.",
            "s",
            [Query("max by (instance) (promgithub_spool_oldest_age_seconds)", "{{instance}}")],
            thresholds=_OLD,
        ),
        Panel(
            "Broker and database",
            "1 while all processes can use it.",
            "short",
            [
                Query("min by (job) (promgithub_broker_up)", "broker ({{job}})"),
                Query("min by (job) (promgithub_database_up)", "database ({{job}})"),
            ],
            most=1.1,
        ),
    ],
)

_PROCESSOR = DashboardRow(
    "Queue and processors",
    [
        Panel(
            "Queue",
            "Deliveries that are ready for a consumer. All processors report the same value.",
            "short",
            [Query("max(promgithub_event_queue_depth)", "depth")],
        ),
        Panel(
            "Queue against its capacity",
            "At 1, the broker refuses deliveries.",
            "percentunit",
            [Query("max(promgithub_event_queue_depth) / max(promgithub_event_queue_capacity)", "filled")],
            thresholds=_FULL,
            most=1,
        ),
        Panel(
            "Deliveries counted",
            "Deliveries in committed transactions, by event.",
            "cps",
            [Query(f"sum by (event_type) (rate(promgithub_event_processed_total[{_RATE}]))", "{{event_type}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Lag",
            "Time from receiving a delivery to the commit that counts it. It may be hours after a long outage.",
            "s",
            quantiles("promgithub_event_lag_seconds", "", _RATE),
            thresholds=_OLD,
        ),
        Panel(
            "Time of a batch",
            "Time from taking a batch to acknowledging it, including retries.",
            "s",
            quantiles("promgithub_event_processing_duration_seconds", "", _RATE),
            thresholds=((1, "yellow"), (10, "red")),
        ),
        Panel(
            "Size of a batch",
            "Deliveries per batch. If it is always BATCH_SIZE, the processors are at their limit.",
            "short",
            quantiles("promgithub_event_batch_size", "", _RATE),
        ),
        Panel(
            "Held by processors",
            "Deliveries taken from the queue and not acknowledged yet, at most PREFETCH and MAX_HELD_BYTES on each "
            "processor.",
            "short",
            [Query("sum by (instance) (promgithub_event_held)", "{{instance}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Returned because of their size",
            "Times that a processor returned deliveries to the queue, because it held more than MAX_HELD_BYTES. "
            "Runbook: The queue grows.",
            "short",
            [Query(f"sum by (instance) (increase(promgithub_event_returns_total[{_RATE}]))", "{{instance}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Oldest held delivery",
            "Age of the oldest delivery that a processor holds.",
            "s",
            [Query("max by (instance) (promgithub_event_oldest_age_seconds)", "{{instance}}")],
            thresholds=_OLD,
        ),
        Panel(
            "Workers",
            "Workers that consume from the queue: EVENT_WORKERS on each processor, 0 while it waits for the database "
            "or the broker.",
            "short",
            [Query("sum by (instance) (promgithub_event_workers)", "{{instance}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Lease holder",
            "The processor that exposes the metrics about CI; another takes over within 15 s of a crash.",
            "short",
            [Query("sum by (instance) (promgithub_exporter_leader)", "{{instance}}")],
            PanelKind.STACK,
        ),
    ],
)

_TROUBLE = DashboardRow(
    "What did not go smoothly",
    [
        Panel(
            "Accepted and missing",
            "Deliveries accepted within 15 minutes that are neither counted, dropped, in the queue nor held. It varies "
            "around 0, and is below 0 after a replay of dead letters. Prometheus needs recording.rules.yml for it. "
            "Runbook: Accepted deliveries are missing.",
            "short",
            [Query("promgithub:event_missing:increase15m", "missing")],
            thresholds=_ANY,
        ),
        Panel(
            "Retries by cause",
            "Failed attempts that were retried. No delivery is lost. Runbook: Retries.",
            "cps",
            [Query(f"sum by (cause) (rate(promgithub_event_retries_total[{_RATE}]))", "{{cause}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Failed attempts by event",
            "Deliveries in failed transactions, once per attempt. No data until the first failure.",
            "cps",
            [
                Query(
                    f"sum by (event_type) (rate(promgithub_event_processing_failures_total[{_RATE}]))", "{{event_type}}"
                )
            ],
            PanelKind.STACK,
        ),
        Panel(
            "Dead letters",
            "Dead letters, by queue and spool.",
            "short",
            [
                Query("max(promgithub_dead_letters)", "in the dead-letter queue"),
                Query("sum(promgithub_spool_dead_letters)", "in spools"),
            ],
            PanelKind.STACK,
            _ANY,
        ),
        Panel(
            "Dead letters by reason",
            "Deliveries that the processors have dead-lettered within an hour. Runbook: Dead letters.",
            "short",
            [Query("sum by (reason) (increase(promgithub_event_dropped_total[1h]))", "{{reason}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Duplicates",
            "Deliveries dropped because their ID was already counted. A steady share means that two hooks send the "
            "same events.",
            "cps",
            [
                Query(
                    f"sum by (event_type) (rate(promgithub_duplicate_deliveries_dropped_total[{_RATE}]))",
                    "{{event_type}}",
                )
            ],
            PanelKind.STACK,
        ),
        Panel(
            "Stale ends",
            "Runs and jobs closed as stale within an hour. No data until the first one. "
            "Runbook: Ends that were never heard of.",
            "short",
            [Query("sum by (kind, reason) (increase(promgithub_stale_total[1h]))", "{{kind}}, {{reason}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Anomalies",
            "Contradictory or uncountable data in deliveries within an hour; docs/metrics.md has the kinds. "
            "No data until the first.",
            "short",
            [Query("sum by (kind) (increase(promgithub_anomaly_total[1h]))", "{{kind}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Ignored pushes",
            "Pushes of the branches of merge queues, which are not counted as pushes. No data until the first.",
            "short",
            [Query("sum by (reason) (promgithub_push_ignored_total)", "{{reason}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Unsettled",
            "Jobs and runs with something that is counted only after GRACE without a delivery about them, by kind.",
            "short",
            [Query("sum by (kind) (promgithub_unsettled)", "{{kind}}")],
            PanelKind.STACK,
        ),
        Panel(
            "New series",
            "Series that Prometheus still sees as 0, for NEW_SERIES_SECONDS after their first event. "
            "Runbook: A figure that curl shows and Prometheus does not.",
            "short",
            [Query("sum(promgithub_series_held)", "held")],
        ),
        Panel(
            "Chores that fail",
            "Failures of chores of the processor that leads, and of rows that they skip. Runbook: A chore fails.",
            "short",
            [Query(f"sum by (chore) (increase(promgithub_chore_failures_total[{_RATE}]))", "{{chore}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Deletion waits",
            "1 for a table that has expired by more than half, so nothing is deleted yet. Runbook: Deletion waits.",
            "short",
            [Query("max by (table) (promgithub_retention_waiting)", "{{table}}")],
            thresholds=((1, "red"),),
        ),
        Panel(
            "Unreadable rows",
            "Rows that /metrics leaves out because this release cannot read them; the log names them. "
            "Normal only while releases of different labels run side by side.",
            "short",
            [Query("sum(promgithub_series_unreadable)", "rows")],
            thresholds=((1, "red"),),
        ),
        Panel(
            "Overflow of series",
            "Increments of the overflow series of a metric that has reached MAX_SERIES. No data until the first. "
            "Runbook: Too many series.",
            "cps",
            [Query(f"sum by (metric) (rate(promgithub_series_overflow_total[{_RATE}]))", "{{metric}}")],
            PanelKind.STACK,
        ),
        Panel(
            "Time since the last delivery",
            "Time since the newest counted delivery was received, by event. Runbook: No deliveries.",
            "s",
            [
                Query(
                    "time() - max by (event_type) (promgithub_last_event_timestamp_seconds)",
                    "{{event_type}}",
                )
            ],
        ),
    ],
)

_PROCESSES = DashboardRow(
    "Processes",
    [
        Panel(
            "CPU",
            "CPU cores that each process uses; the maximum of a process is about one.",
            "short",
            [Query(f"rate(process_cpu_seconds_total[{_RATE}]) {_OURS}", "{{job}} {{instance}}")],
            thresholds=((0.8, "red"),),
        ),
        Panel(
            "Memory",
            "Resident memory of each process.",
            "bytes",
            [Query(f"process_resident_memory_bytes {_OURS}", "{{job}} {{instance}}")],
        ),
        Panel(
            "No free file descriptor",
            "Checks per minute that found no free file descriptor; a process closes new connections meanwhile. "
            "Runbook: A process is out of file descriptors.",
            "short",
            [Query(f"60 * rate(promgithub_file_descriptors_exhausted_total[{_RATE}])", "{{job}} {{instance}}")],
            thresholds=((0.1, "red"),),
        ),
        Panel(
            "Processes by version",
            "More than one version is normal only during a rolling update.",
            "short",
            [Query("count by (job, version) (promgithub_build_info)", "{{job}} {{version}}")],
            PanelKind.STACK,
        ),
    ],
)

PIPELINE_HEALTH = Dashboard(
    "promgithub-pipeline-health",
    "Pipeline health",
    "The state of promgithub itself, from GitHub's request to the metrics. docs/runbook.md explains what to do.",
    [_VERDICT, _RECEIVER, _PROCESSOR, _TROUBLE, _PROCESSES],
    since="now-1h",
)
