-- Small pictures of the reference images of tasks, sealed with the master key. The images themselves are not kept.
CREATE TABLE task_thumbnails (
    task    {int}   NOT NULL,
    -- Of the reference image, from 0.
    number  {int}   NOT NULL,
    content {bytes} NOT NULL,
    PRIMARY KEY (task, number)
){key_table};
