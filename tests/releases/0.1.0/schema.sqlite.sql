CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE counters (
	"key" CHAR(32) NOT NULL, 
	metric TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	held BOOLEAN NOT NULL, 
	created_at BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE INDEX counters_held ON counters (created_at) WHERE held IS 1;
CREATE INDEX counters_metric ON counters (metric);
CREATE TABLE cursors (
	hook TEXT NOT NULL, 
	failed_at BIGINT NOT NULL, 
	PRIMARY KEY (hook)
);
CREATE TABLE deliveries (
	id CHAR(32) NOT NULL, 
	claimed_at BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX deliveries_claimed_at ON deliveries (claimed_at);
CREATE TABLE executions (
	fingerprint CHAR(32) NOT NULL, 
	state TEXT, 
	flags BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	PRIMARY KEY (fingerprint)
);
CREATE INDEX executions_touched_at ON executions (touched_at);
CREATE TABLE flaky_jobs (
	fingerprint CHAR(32) NOT NULL, 
	state TEXT, 
	flags BIGINT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	PRIMARY KEY (fingerprint)
);
CREATE INDEX flaky_jobs_touched_at ON flaky_jobs (touched_at);
CREATE TABLE gauge_labels (
	"key" CHAR(32) NOT NULL, 
	metric TEXT NOT NULL, 
	labels TEXT NOT NULL, 
	touched_at BIGINT NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE histograms (
	"key" CHAR(32) NOT NULL, 
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
	PRIMARY KEY ("key")
);
CREATE INDEX histograms_held ON histograms (created_at) WHERE held IS 1;
CREATE INDEX histograms_metric ON histograms (metric);
CREATE TABLE hourly (
	hour BIGINT NOT NULL, 
	"key" CHAR(32) NOT NULL, 
	metric TEXT NOT NULL, 
	repository TEXT NOT NULL, 
	workflow_name TEXT NOT NULL, 
	runner_class TEXT NOT NULL, 
	conclusion TEXT NOT NULL, 
	bound BIGINT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (hour, "key")
);
CREATE TABLE jobs (
	host TEXT NOT NULL, 
	job_id BIGINT NOT NULL, 
	run_id BIGINT, 
	attempt BIGINT, 
	name_key CHAR(32), 
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
CREATE INDEX jobs_closed ON jobs (touched_at) WHERE closed_at IS NOT NULL;
CREATE INDEX jobs_failed ON jobs (finished_at) WHERE failed IS 1;
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
CREATE TABLE locks (
	name TEXT NOT NULL, 
	PRIMARY KEY (name)
);
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
CREATE INDEX runs_closed ON runs (touched_at) WHERE closed_at IS NOT NULL;
CREATE INDEX runs_fork ON runs (run_id) WHERE fork IS NOT NULL;
CREATE INDEX runs_open ON runs (phase) WHERE phase IS NOT NULL;
CREATE INDEX runs_unsettled ON runs (touched_at) WHERE unsettled IS NOT NULL;
INSERT INTO locks (name) VALUES ('series');
INSERT INTO alembic_version (version_num) VALUES ('0001') RETURNING version_num;
CREATE TABLE past (
	began_at BIGINT NOT NULL, 
	metric TEXT NOT NULL, 
	"key" CHAR(32) NOT NULL, 
	step BIGINT NOT NULL, 
	bound BIGINT NOT NULL, 
	labels TEXT NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (began_at, metric, "key", step, bound)
);
CREATE TABLE backfills (
	began_at BIGINT NOT NULL, 
	since BIGINT NOT NULL, 
	progress TEXT NOT NULL, 
	written_at BIGINT, 
	PRIMARY KEY (began_at)
);
UPDATE alembic_version SET version_num='0002' WHERE alembic_version.version_num = '0001';
