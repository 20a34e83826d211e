"""*Pipeline health*: whether promgithub itself is well, from GitHub's request to the figure; see docs/runbook.md."""

from deploy.grafana.model import Dashboard, Kind, Panel, Query, Row
from deploy.grafana.promql import quantiles

_RATE = "$__rate_interval"
_UP = {0: "down", 1: "up"}
_FULL = ((0.5, "yellow"), (0.8, "red"))
_OLD = ((60, "yellow"), (600, "red"))
_ANY = ((1, "red"),)

# The metrics of the process itself are everybody's: these are ours.
_OURS = "* on (job, instance) group_left () promgithub_build_info"

_VERDICT = Row(
    "Is all well?",
    [
        Panel(
            "Broker",
            "Down if any process finds that the broker takes no deliveries. Runbook: The broker is away.",
            "short",
            [Query("min(promgithub_broker_up)", "broker")],
            Kind.NUMBER,
            ((1, "green"),),
            _UP,
            base="red",
            width=3,
        ),
        Panel(
            "Database",
            "Down if any processor gets no answer. Runbook: The database is away.",
            "short",
            [Query("min(promgithub_database_up)", "database")],
            Kind.NUMBER,
            ((1, "green"),),
            _UP,
            base="red",
            width=3,
        ),
        Panel(
            "Lease holders",
            "Processors that expose the metrics about CI: 1, however many there are. Runbook: No processor exposes.",
            "short",
            [Query("sum(promgithub_exporter_leader)", "holders")],
            Kind.NUMBER,
            ((1, "green"), (2, "red")),
            base="red",
            width=3,
        ),
        Panel(
            "Queue filled",
            "Of what the queue takes before it refuses. Runbook: The queue grows.",
            "percentunit",
            [Query("max(promgithub_event_queue_depth) / max(promgithub_event_queue_capacity)", "filled")],
            Kind.NUMBER,
            _FULL,
            width=3,
        ),
        Panel(
            "Spool filled",
            "Of what the fullest spool of a receiver takes; none if there is none. Runbook: The spool fills.",
            "percentunit",
            [Query("max(promgithub_spool_bytes / (promgithub_spool_capacity_bytes > 0))", "filled")],
            Kind.NUMBER,
            _FULL,
            width=3,
        ),
        Panel(
            "Oldest held delivery",
            "How far behind the figures about CI are. Runbook: The queue grows.",
            "s",
            [Query("max(promgithub_event_oldest_age_seconds)", "oldest")],
            Kind.NUMBER,
            _OLD,
            width=3,
        ),
        Panel(
            "Dead letters",
            "Deliveries set aside in the dead-letter queue and in spools, until they are replayed or dropped. "
            "Runbook: Dead letters.",
            "short",
            [Query("max(promgithub_dead_letters) + sum(promgithub_spool_dead_letters)", "dead letters")],
            Kind.NUMBER,
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
            Kind.NUMBER,
            ((0.01, "yellow"), (0.1, "red")),
            width=3,
        ),
    ],
)

_RECEIVER = Row(
    "Receivers",
    [
        Panel(
            "Requests by outcome",
            "All but accepted, spooled and pong were refused; shed, queue_full and broker_down are deliveries that "
            "GitHub does not send again by itself.",
            "reqps",
            [Query(f"sum by (outcome) (rate(promgithub_webhook_requests_total[{_RATE}]))", "{{outcome}}")],
            Kind.STACK,
        ),
        Panel(
            "Requests by event",
            "The events that requests claim to be.",
            "reqps",
            [Query(f"sum by (event) (rate(promgithub_webhook_requests_total[{_RATE}]))", "{{event}}")],
            Kind.STACK,
        ),
        Panel(
            "Time to the 202",
            "From the headers of a delivery to the answer that accepts it. GitHub gives up after 10 s.",
            "s",
            quantiles("promgithub_webhook_ack_seconds", "", _RATE),
            thresholds=((1, "yellow"), (9, "red")),
        ),
        Panel(
            "In flight",
            "Requests that are not answered yet; a receiver refuses more than MAX_IN_FLIGHT. Runbook: A receiver "
            "is saturated.",
            "short",
            [Query("promgithub_webhook_in_flight", "{{instance}}")],
            Kind.STACK,
        ),
        Panel(
            "In spools",
            "Deliveries on the receivers' own disks because the broker did not take them.",
            "short",
            [Query("promgithub_spool_deliveries", "{{instance}}")],
            Kind.STACK,
        ),
        Panel(
            "Forwarded from spools",
            "Deliveries that the broker took from spools once it could.",
            "cps",
            [Query(f"sum by (instance) (rate(promgithub_spool_forwarded_total[{_RATE}]))", "{{instance}}")],
        ),
        Panel(
            "Spools against their capacity",
            "Bytes that are kept, and bytes that there is room for, over all receivers.",
            "bytes",
            [
                Query("sum(promgithub_spool_bytes)", "kept"),
                Query("sum(promgithub_spool_capacity_bytes)", "capacity"),
            ],
        ),
        Panel(
            "Oldest in a spool",
            "How long ago the next delivery to leave a spool was received.",
            "s",
            [Query("max by (instance) (promgithub_spool_oldest_age_seconds)", "{{instance}}")],
            thresholds=_OLD,
        ),
        Panel(
            "Broker and database",
            "1 while all processes that use it find it up.",
            "short",
            [
                Query("min by (job) (promgithub_broker_up)", "broker ({{job}})"),
                Query("min by (job) (promgithub_database_up)", "database ({{job}})"),
            ],
            most=1.1,
        ),
    ],
)

_PROCESSOR = Row(
    "Queue and processors",
    [
        Panel(
            "Queue",
            "Deliveries that no processor has taken yet. The same on all processors.",
            "short",
            [Query("max(promgithub_event_queue_depth)", "depth")],
        ),
        Panel(
            "Queue against its capacity",
            "At 1 the broker refuses.",
            "percentunit",
            [Query("max(promgithub_event_queue_depth) / max(promgithub_event_queue_capacity)", "filled")],
            thresholds=_FULL,
            most=1,
        ),
        Panel(
            "Deliveries counted",
            "Committed, by event.",
            "cps",
            [Query(f"sum by (event_type) (rate(promgithub_event_processed_total[{_RATE}]))", "{{event_type}}")],
            Kind.STACK,
        ),
        Panel(
            "Lag",
            "From the receiver's answer to the commit, of each delivery. Hours after an outage of hours.",
            "s",
            quantiles("promgithub_event_lag_seconds", "", _RATE),
            thresholds=_OLD,
        ),
        Panel(
            "Time of a batch",
            "From taking a batch to its acknowledgement, retries included.",
            "s",
            quantiles("promgithub_event_processing_duration_seconds", "", _RATE),
            thresholds=((1, "yellow"), (10, "red")),
        ),
        Panel(
            "Size of a batch",
            "Deliveries; steadily at BATCH_SIZE, processors are at their limit.",
            "short",
            quantiles("promgithub_event_batch_size", "", _RATE),
        ),
        Panel(
            "Oldest held delivery",
            "Time since the oldest delivery that a worker holds was received.",
            "s",
            [Query("max by (instance) (promgithub_event_oldest_age_seconds)", "{{instance}}")],
            thresholds=_OLD,
        ),
        Panel(
            "Workers",
            "Workers that take batches: EVENT_WORKERS on each processor, 0 while it waits for the database or "
            "the broker.",
            "short",
            [Query("sum by (instance) (promgithub_event_worker_count)", "{{instance}}")],
            Kind.STACK,
        ),
        Panel(
            "Lease holder",
            "The processor that exposes the metrics about CI; another takes over within 15 s of a crash.",
            "short",
            [Query("sum by (instance) (promgithub_exporter_leader)", "{{instance}}")],
            Kind.STACK,
        ),
    ],
)

_TROUBLE = Row(
    "What did not go smoothly",
    [
        Panel(
            "Retries by cause",
            "Attempts that failed and were made again; nothing is lost by them. Runbook: Retries.",
            "cps",
            [Query(f"sum by (cause) (rate(promgithub_event_retries_total[{_RATE}]))", "{{cause}}")],
            Kind.STACK,
        ),
        Panel(
            "Failed attempts by event",
            "Deliveries in transactions that failed, each attempt counted. Empty until the first.",
            "cps",
            [
                Query(
                    f"sum by (event_type) (rate(promgithub_event_processing_failures_total[{_RATE}]))", "{{event_type}}"
                )
            ],
            Kind.STACK,
        ),
        Panel(
            "Dead letters",
            "Deliveries set aside, where they are.",
            "short",
            [
                Query("max(promgithub_dead_letters)", "in the dead-letter queue"),
                Query("sum(promgithub_spool_dead_letters)", "in spools"),
            ],
            Kind.STACK,
            _ANY,
        ),
        Panel(
            "Dead letters by reason",
            "Deliveries that the processors put into the dead-letter queue since they started. Empty until the first. "
            "Runbook: Dead letters.",
            "short",
            [Query("sum by (reason) (promgithub_event_dropped_total)", "{{reason}}")],
            Kind.STACK,
        ),
        Panel(
            "Duplicates",
            "Deliveries whose ID had been counted, and that changed nothing. A steady share means two hooks for "
            "the same events.",
            "cps",
            [
                Query(
                    f"sum by (event_type) (rate(promgithub_duplicate_deliveries_dropped_total[{_RATE}]))",
                    "{{event_type}}",
                )
            ],
            Kind.STACK,
        ),
        Panel(
            "Stale ends",
            "Runs and jobs closed so far because their end was never heard of. Empty until the first. "
            "Runbook: Ends that were never heard of.",
            "short",
            [Query("sum by (kind, reason) (promgithub_stale_total)", "{{kind}}, {{reason}}")],
            Kind.STACK,
        ),
        Panel(
            "Anomalies",
            "Facts so far that cannot be true or counted; docs/metrics.md has the kinds. Empty until the first.",
            "short",
            [Query("sum by (kind) (promgithub_anomaly_total)", "{{kind}}")],
            Kind.STACK,
        ),
        Panel(
            "Overflow of series",
            "Additions to the overflow series of a metric that is full. Empty until the first. Runbook: Too many "
            "series.",
            "cps",
            [Query(f"sum by (metric) (rate(promgithub_series_overflow_total[{_RATE}]))", "{{metric}}")],
            Kind.STACK,
        ),
        Panel(
            "Time since the last delivery",
            "By event, since the newest delivery that was counted had been received. Runbook: No deliveries.",
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

_PROCESSES = Row(
    "Processes",
    [
        Panel(
            "CPU",
            "Cores that each process keeps busy; one is a process's most.",
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
            "Processes by version",
            "More than one version is normal during a rolling update only.",
            "short",
            [Query("count by (job, version) (promgithub_build_info)", "{{job}} {{version}}")],
            Kind.STACK,
        ),
    ],
)

PIPELINE_HEALTH = Dashboard(
    "promgithub-pipeline-health",
    "Pipeline health",
    "Whether promgithub itself is well, from GitHub's request to the figure. docs/runbook.md says what to do.",
    [_VERDICT, _RECEIVER, _PROCESSOR, _TROUBLE, _PROCESSES],
    since="now-1h",
)
