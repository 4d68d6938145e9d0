// The API's documentation by Swagger UI, each endpoint with an example that can be tried.
import SwaggerUI from 'swagger-ui-dist/swagger-ui-es-bundle.js'

SwaggerUI({
  url: '/schema/openapi.json', dom_id: '#docs', deepLinking: true, docExpansion: 'list', tryItOutEnabled: true,
  defaultModelsExpandDepth: -1, displayRequestDuration: true, validatorUrl: null,
})
