-- Pictures as tasks, what tasks used whatever that is counted in, results that are kept here, and every try at a channel.
ALTER TABLE tasks ADD COLUMN quality TEXT;
-- Pictures that were asked for; 0: a video.
ALTER TABLE tasks ADD COLUMN images {int} NOT NULL DEFAULT 0;
-- Who counted it, and how much of what: source=upstream row=1 second=4000
ALTER TABLE tasks ADD COLUMN used TEXT;
UPDATE tasks SET used = 'source=upstream row=' || price_row || ' second=' || used_ms WHERE used_ms IS NOT NULL;
ALTER TABLE tasks DROP COLUMN used_ms;
-- How many results are in task_results; 0: its upstream keeps them.
ALTER TABLE tasks ADD COLUMN results {int} NOT NULL DEFAULT 0;
-- The tries that have ended, as JSON.
ALTER TABLE tasks ADD COLUMN tried TEXT;

-- What tasks made, sealed with the master key.
CREATE TABLE task_results (
    task         {int}   NOT NULL,
    -- From 0.
    number       {int}   NOT NULL,
    -- null: the address of it.
    content_type TEXT,
    content      {bytes} NOT NULL,
    expires_ms   {int}   NOT NULL,
    PRIMARY KEY (task, number)
){key_table};

CREATE INDEX task_results_expiry ON task_results (expires_ms);
