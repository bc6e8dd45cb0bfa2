-- What was sent and what was answered, of calls whose account wants it kept (ADR 22).
CREATE TABLE transcripts (
    request    {bytes} NOT NULL,
    account    {int}   NOT NULL,
    api_key    {int}   NOT NULL,
    at_ms      {int}   NOT NULL,
    -- From then on it is not there any more.
    expires_ms {int}   NOT NULL,
    -- What the content is sealed with, sealed with the master key.
    data_key   {bytes} NOT NULL,
    -- Packed and sealed.
    content    {bytes} NOT NULL,
    PRIMARY KEY (request)
){row_table};

CREATE INDEX transcripts_account ON transcripts (account, request);
CREATE INDEX transcripts_expire ON transcripts (expires_ms);
