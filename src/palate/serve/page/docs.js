"use strict";
const key = sessionStorage.getItem("palate-key");
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  requestInterceptor: (request) => {
    if (key) request.headers.Authorization ??= `Bearer ${key}`;
    return request;
  },
});
