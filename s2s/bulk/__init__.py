"""Translation of files of any size: text, JSON Lines, Parquet, TMX and saved datasets.

A file is read as blocks of rows. Each block is translated on its own, and kept as a part in the run
folder until the parts of all blocks are there and are put together. What runs the blocks is an
`Executor`: this process, or actors of Ray (`s2s.distributed.bulk`).
"""
