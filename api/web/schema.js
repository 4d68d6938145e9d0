// The API's documentation by Swagger UI, each endpoint with an example that can be tried.
import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js'

const spec = await (await fetch('/schema/openapi.json')).json()
const operations = Object.values(spec.paths).flatMap(Object.values)
for (const { parameters = [] } of operations) {
  // An example fills its field in, and what is filled in is sent: only what is required should be.
  for (const parameter of parameters.filter(({ required, examples }) => !required && examples)) {
    parameter.description += ` For instance \`${Object.values(parameter.examples)[0].value}\`.`
    delete parameter.examples
  }
}
SwaggerUI({
  spec, dom_id: '#docs', deepLinking: true, docExpansion: 'list', tryItOutEnabled: true,
  defaultModelsExpandDepth: -1, displayRequestDuration: true, validatorUrl: null,
})
