// Shows the API document. What was typed into Authorize is forgotten with the page: Swagger UI would
// keep the password, too. `validatorUrl`: nobody else is asked about the document.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
