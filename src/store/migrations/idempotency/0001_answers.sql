-- One row for each Idempotency-Key of an API key: the request that it belongs to and, once that has ended well, its
-- answer, sealed. name: hash of the Idempotency-Key. fingerprint: hash of the request's content. head: status and
-- headers as JSON, NULL while the request runs; body: NULL if the answer is too large to be kept.
CREATE TABLE idempotency_answers (
    api_key     {int}   NOT NULL,
    name        {bytes} NOT NULL,
    fingerprint {bytes} NOT NULL,
    request     {bytes} NOT NULL,
    begun_ms    {int}   NOT NULL,
    expires_ms  {int}   NOT NULL,
    head        TEXT,
    body        {bytes},
    PRIMARY KEY (api_key, name)
){row_table};

CREATE INDEX idempotency_answers_expire ON idempotency_answers (expires_ms);
