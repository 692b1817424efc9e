"""Batch jobs that were handed in over HTTP, as records on disk: the files they read and write, and how far they are.

Whoever takes a request only writes a record, or a mark into the job's folder, and wakes the runner (`rayflow.batch`),
which is the only one to change a record afterwards. So a job depends on no connection and on no process: the runner may
die and another one goes on, and any ingress process can tell how far it is.

    <state>/files/<file id>/about.json, content
    <state>/batches/<job id>/record.json     what was asked, and how far it is
                             input.*         its input, where that was handed in
                             cancel, resume  marks: what was asked since
                             (and what `rayflow.batch.directory` keeps there)
"""
