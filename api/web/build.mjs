// Bundles the pages into dist/, each file beside its gzip: node build.mjs
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

process.chdir(import.meta.dirname)
rmSync('dist', { recursive: true, force: true })
mkdirSync('dist')
await build({
  entryPoints: ['chart.js', 'symbols.js', 'schema.js', 'theme.js', 'style.css', 'schema.css'],
  bundle: true, minify: true, format: 'esm', target: 'es2022', legalComments: 'eof', outdir: 'dist', logLevel: 'warning',
})
for (const name of ['index.html', 'symbols.html', 'schema.html', 'icon.svg']) copyFileSync(name, `dist/${name}`)
for (const name of readdirSync('dist')) pack(name)
const swagger = 'node_modules/swagger-ui-dist'
writeFileSync('dist/licences.txt', [
  'lightweight-charts', readFileSync('NOTICE'), readFileSync('node_modules/lightweight-charts/LICENSE'),
  'swagger-ui-dist', readFileSync(`${swagger}/NOTICE`), readFileSync(`${swagger}/LICENSE`),
  readFileSync(`${swagger}/swagger-ui-es-bundle.js.LICENSE.txt`),
].join('\n\n'))
pack('licences.txt') // the last file: make looks at it

function pack(name) {
  writeFileSync(`dist/${name}.gz`, gzipSync(readFileSync(`dist/${name}`), { level: 9 }))
}
