CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE counters (
	key UUID NOT NULL, 
	metric TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	held BOOLEAN NOT NULL, 
	created_at BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	PRIMARY KEY (key)
)
 WITH (fillfactor = 70);
COMMENT ON TABLE counters IS 'The series of counters.';
COMMENT ON COLUMN counters.key IS 'fingerprint of metric and labels';
COMMENT ON COLUMN counters.labels IS 'label values by name, as a JSON object without empty ones';
COMMENT ON COLUMN counters.value IS 'in the metric''s stored unit';
COMMENT ON COLUMN counters.held IS 'whether scrapers still see the new series as 0';
CREATE INDEX counters_held ON counters (created_at) WHERE held IS true;
CREATE INDEX counters_metric ON counters (metric);
CREATE TABLE cursors (
	hook TEXT NOT NULL, 
	failed_at BIGINT NOT NULL, 
	PRIMARY KEY (hook)
);
COMMENT ON TABLE cursors IS 'How far the failed deliveries of each hook have been recovered.';
COMMENT ON COLUMN cursors.hook IS 'a hook as the setting GITHUB_HOOKS names it';
COMMENT ON COLUMN cursors.failed_at IS 'failed deliveries up to this moment have been recovered';
CREATE TABLE deliveries (
	id UUID NOT NULL, 
	claimed_at BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
COMMENT ON TABLE deliveries IS 'Deliveries already counted; the same ID again is a duplicate.';
COMMENT ON COLUMN deliveries.id IS 'X-GitHub-Delivery';
COMMENT ON COLUMN deliveries.claimed_at IS 'when its effects were committed';
CREATE INDEX deliveries_claimed_at ON deliveries USING brin (claimed_at);
CREATE TABLE executions (
	fingerprint UUID NOT NULL, 
	state TEXT, 
	flags BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	PRIMARY KEY (fingerprint)
);
COMMENT ON COLUMN executions.state IS 'what is known, in JSON; null while the row is being made';
COMMENT ON COLUMN executions.flags IS 'what has been counted, as bits of counting.flags.Flag';
COMMENT ON COLUMN executions.touched_at IS 'when the last delivery about it was counted';
CREATE INDEX executions_touched_at ON executions USING brin (touched_at);
CREATE TABLE flaky_jobs (
	fingerprint UUID NOT NULL, 
	state TEXT, 
	flags BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	PRIMARY KEY (fingerprint)
);
COMMENT ON COLUMN flaky_jobs.state IS 'what is known, in JSON; null while the row is being made';
COMMENT ON COLUMN flaky_jobs.flags IS 'what has been counted, as bits of counting.flags.Flag';
COMMENT ON COLUMN flaky_jobs.touched_at IS 'when the last delivery about it was counted';
CREATE INDEX flaky_jobs_touched_at ON flaky_jobs USING brin (touched_at);
CREATE TABLE gauge_labels (
	key UUID NOT NULL, 
	metric TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	PRIMARY KEY (key)
);
COMMENT ON TABLE gauge_labels IS 'Labels under which something was open once: gauges show 0 for them.';
COMMENT ON COLUMN gauge_labels.key IS 'fingerprint of metric and labels';
COMMENT ON COLUMN gauge_labels.metric IS 'what the names of the gauges begin with';
COMMENT ON COLUMN gauge_labels.labels IS 'label values by name, as a JSON object without empty ones';
CREATE TABLE histograms (
	key UUID NOT NULL, 
	metric TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	sum_ms BIGINT NOT NULL, 
	le_100 BIGINT NOT NULL, 
	le_500 BIGINT NOT NULL, 
	le_1000 BIGINT NOT NULL, 
	le_2000 BIGINT NOT NULL, 
	le_3000 BIGINT NOT NULL, 
	le_5000 BIGINT NOT NULL, 
	le_10000 BIGINT NOT NULL, 
	le_15000 BIGINT NOT NULL, 
	le_30000 BIGINT NOT NULL, 
	le_60000 BIGINT NOT NULL, 
	le_120000 BIGINT NOT NULL, 
	le_300000 BIGINT NOT NULL, 
	le_600000 BIGINT NOT NULL, 
	le_900000 BIGINT NOT NULL, 
	le_1200000 BIGINT NOT NULL, 
	le_1800000 BIGINT NOT NULL, 
	le_2700000 BIGINT NOT NULL, 
	le_3600000 BIGINT NOT NULL, 
	le_7200000 BIGINT NOT NULL, 
	le_14400000 BIGINT NOT NULL, 
	le_21600000 BIGINT NOT NULL, 
	le_28800000 BIGINT NOT NULL, 
	le_86400000 BIGINT NOT NULL, 
	le_172800000 BIGINT NOT NULL, 
	le_259200000 BIGINT NOT NULL, 
	le_604800000 BIGINT NOT NULL, 
	le_1209600000 BIGINT NOT NULL, 
	le_2592000000 BIGINT NOT NULL, 
	le_inf BIGINT NOT NULL, 
	held BOOLEAN NOT NULL, 
	created_at BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	PRIMARY KEY (key)
)
 WITH (fillfactor = 70);
COMMENT ON TABLE histograms IS 'The series of histograms; le_N counts what is over the bound before and at most N milliseconds.';
COMMENT ON COLUMN histograms.key IS 'fingerprint of metric and labels';
COMMENT ON COLUMN histograms.labels IS 'label values by name, as a JSON object without empty ones';
COMMENT ON COLUMN histograms.held IS 'whether scrapers still see the new series as 0';
CREATE INDEX histograms_held ON histograms (created_at) WHERE held IS true;
CREATE INDEX histograms_metric ON histograms (metric);
CREATE TABLE hourly (
	hour BIGINT NOT NULL, 
	key UUID NOT NULL, 
	metric TEXT NOT NULL, 
	repository TEXT NOT NULL, 
	workflow_name TEXT NOT NULL, 
	runner_class TEXT NOT NULL, 
	conclusion TEXT NOT NULL, 
	bound BIGINT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (hour, key)
)
 WITH (fillfactor = 70);
COMMENT ON TABLE hourly IS 'What some metrics grew by in each hour, with fewer labels.';
COMMENT ON COLUMN hourly.hour IS 'when the hour began';
COMMENT ON COLUMN hourly.key IS 'fingerprint of the labels and the bound';
COMMENT ON COLUMN hourly.bound IS 'of a histogram''s bucket in ms; 0 without, -1 if infinite';
COMMENT ON COLUMN hourly.value IS 'in the metric''s stored unit; of histograms a number';
CREATE TABLE jobs (
	host TEXT NOT NULL, 
	job_id BIGINT NOT NULL, 
	run_id BIGINT, 
	attempt BIGINT, 
	name_key UUID, 
	finished_at BIGINT, 
	failed BOOLEAN, 
	state TEXT, 
	flags BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	unsettled BIGINT, 
	phase TEXT, 
	since BIGINT, 
	repository TEXT, 
	branch TEXT, 
	workflow_name TEXT, 
	runner_class TEXT, 
	closed_at BIGINT, 
	asked_at BIGINT, 
	PRIMARY KEY (host, job_id)
);
COMMENT ON COLUMN jobs.state IS 'what is known, in JSON; null while the row is being made';
COMMENT ON COLUMN jobs.flags IS 'what has been counted, as bits of counting.flags.Flag';
COMMENT ON COLUMN jobs.touched_at IS 'when the last delivery about it was counted';
COMMENT ON COLUMN jobs.unsettled IS 'bits of what waits for the end of news; null if nothing does';
COMMENT ON COLUMN jobs.phase IS 'the gauge that it counts in; null once closed';
COMMENT ON COLUMN jobs.since IS 'start of the age of the phase';
COMMENT ON COLUMN jobs.closed_at IS 'when it was seen to be closed; null while open';
COMMENT ON COLUMN jobs.asked_at IS 'when GitHub was last asked about it; null if never';
CREATE INDEX jobs_closed ON jobs (touched_at) WHERE closed_at IS NOT NULL;
CREATE INDEX jobs_failed ON jobs (finished_at) WHERE failed IS true;
CREATE INDEX jobs_name_key ON jobs (name_key, finished_at) WHERE name_key IS NOT NULL;
CREATE INDEX jobs_open ON jobs (phase) WHERE phase IS NOT NULL;
CREATE INDEX jobs_open_run ON jobs (run_id) WHERE phase IS NOT NULL;
CREATE INDEX jobs_unsettled ON jobs (touched_at) WHERE unsettled IS NOT NULL;
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
COMMENT ON TABLE leases IS 'Who does what only one may do.';
CREATE TABLE locks (
	name TEXT NOT NULL, 
	PRIMARY KEY (name)
);
COMMENT ON TABLE locks IS 'Rows to lock; `series` is held while series are added or merged.';
CREATE TABLE runs (
	host TEXT NOT NULL, 
	run_id BIGINT NOT NULL, 
	attempt BIGINT NOT NULL, 
	fork BOOLEAN, 
	state TEXT, 
	flags BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	unsettled BIGINT, 
	phase TEXT, 
	since BIGINT, 
	repository TEXT, 
	branch TEXT, 
	workflow_name TEXT, 
	closed_at BIGINT, 
	asked_at BIGINT, 
	PRIMARY KEY (host, run_id, attempt)
);
COMMENT ON COLUMN runs.state IS 'what is known, in JSON; null while the row is being made';
COMMENT ON COLUMN runs.flags IS 'what has been counted, as bits of counting.flags.Flag';
COMMENT ON COLUMN runs.touched_at IS 'when the last delivery about it was counted';
COMMENT ON COLUMN runs.unsettled IS 'bits of what waits for the end of news; null if nothing does';
COMMENT ON COLUMN runs.phase IS 'the gauge that it counts in; null once closed';
COMMENT ON COLUMN runs.since IS 'start of the age of the phase';
COMMENT ON COLUMN runs.closed_at IS 'when it was seen to be closed; null while open';
COMMENT ON COLUMN runs.asked_at IS 'when GitHub was last asked about it; null if never';
CREATE INDEX runs_closed ON runs (touched_at) WHERE closed_at IS NOT NULL;
CREATE INDEX runs_fork ON runs (run_id) WHERE fork IS NOT NULL;
CREATE INDEX runs_open ON runs (phase) WHERE phase IS NOT NULL;
CREATE INDEX runs_unsettled ON runs (touched_at) WHERE unsettled IS NOT NULL;
INSERT INTO locks (name) VALUES ('series');
INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING alembic_version.version_num;
CREATE TABLE past (
	began_at BIGINT NOT NULL, 
	metric TEXT NOT NULL, 
	key UUID NOT NULL, 
	step BIGINT NOT NULL, 
	bound BIGINT NOT NULL, 
	labels TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (began_at, metric, key, step, bound)
);
COMMENT ON TABLE past IS 'What backfills counted, by step of time. It is in no series.';
COMMENT ON COLUMN past.began_at IS 'when its backfill began';
COMMENT ON COLUMN past.key IS 'fingerprint of metric and labels';
COMMENT ON COLUMN past.step IS 'end of the step of time';
COMMENT ON COLUMN past.bound IS 'as in hourly; -2 for a sum in ms';
COMMENT ON COLUMN past.labels IS 'label values by name, as a JSON object without empty ones';
COMMENT ON COLUMN past.value IS 'in the metric''s stored unit; of histograms a number';
CREATE TABLE backfills (
	began_at BIGINT NOT NULL, 
	since BIGINT NOT NULL, 
	progress TEXT NOT NULL, 
	written_at BIGINT, 
	PRIMARY KEY (began_at)
);
COMMENT ON TABLE backfills IS 'The backfills, and how far they are.';
COMMENT ON COLUMN backfills.since IS 'from when on it reads GitHub''s runs';
COMMENT ON COLUMN backfills.progress IS 'creation time of the newest run read, by repository, in JSON';
COMMENT ON COLUMN backfills.written_at IS 'when its file was complete; null before';
UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';
