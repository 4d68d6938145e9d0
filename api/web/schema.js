// The API's documentation by Swagger UI, each endpoint with an example that can be tried.
import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js'

const spec = await (await fetch('/schema/openapi.json')).json()
const operations = Object.values(spec.paths).flatMap(Object.values)
for (const operation of operations) {
  operation.summary = operation.description?.split(/\.(\s|$)/)[0].replaceAll('`', '')
  // An example fills its field in, and what is filled in is sent: only what is required should be.
  for (const parameter of operation.parameters?.filter(({ examples }) => examples) ?? []) {
    const [{ value }] = Object.values(parameter.examples)
    delete parameter.examples
    if (parameter.required) parameter.example = value
    else parameter.description += ` For instance \`${value}\`.`
  }
}
SwaggerUI({
  spec, dom_id: '#docs', deepLinking: true, docExpansion: 'list', tryItOutEnabled: true,
  defaultModelsExpandDepth: -1, displayRequestDuration: true, validatorUrl: null,
})
