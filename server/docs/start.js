// A file of its own, because the page allows no script within it.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  // By default a server on the internet is asked whether the document is valid.
  validatorUrl: null,
  // A key is forgotten with the page.
  persistAuthorization: false,
});
