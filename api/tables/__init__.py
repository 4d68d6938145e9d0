"""Tables of any length: CSV, Arrow and Parquet, page after page from the database, in flat memory.

A page is a window of one symbol's bars, read in a snapshot of its own: one long transaction would pin a connection for
as long as the client takes. While one page is encoded and sent, the next is read; no more than that is ever held.

The database joins a page's bars into one text, and pyarrow's CSV reader makes decimals of it in C++. A year of minutes
takes PostgreSQL 0.76 s as text, prepared once; 0.87 s as COPY of CSV, planned for each page; 0.79 s as COPY's binary
format, which only Python decodes. ADBC takes 1.4 s, its decimals being strings.
"""

from barwright.api.tables.answer import stream

__all__ = ["stream"]
