-- Every version of every object, so that an old decision can be explained with the objects as they were.
CREATE TABLE directory_log (
    version {int}   NOT NULL PRIMARY KEY,
    kind    TEXT    NOT NULL,
    id      {int}   NOT NULL,
    body    {bytes} NOT NULL,
    actor   TEXT    NOT NULL,
    at_ms   {int}   NOT NULL
){row_table};

CREATE INDEX directory_log_object ON directory_log (kind, id, version);

-- The newest version of each object.
CREATE TABLE directory_current (
    kind    TEXT    NOT NULL,
    id      {int}   NOT NULL,
    version {int}   NOT NULL,
    body    {bytes} NOT NULL,
    deleted {int}   NOT NULL DEFAULT 0,
    PRIMARY KEY (kind, id)
){key_table};

-- Names that are unique within their kind (a model's name, the hash of a key).
CREATE TABLE directory_names (
    kind TEXT  NOT NULL,
    name TEXT  NOT NULL,
    id   {int} NOT NULL,
    PRIMARY KEY (kind, name)
){key_table};

-- Small facts about the installation itself, such as the check value of the master key.
CREATE TABLE directory_meta (
    name TEXT    NOT NULL PRIMARY KEY,
    body {bytes} NOT NULL
){key_table};
