# syntax=docker/dockerfile:1
# docker build -t bobbin .
# docker run -d --name bobbin -p 127.0.0.1:8025:8025 -v bobbin:/var/lib/bobbin -e BOBBIN_SECURITY_INSECURE_LISTEN=true bobbin
# See docs/operations.md, "In a container".

FROM node:24-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY . .
RUN npm run build && npm prune --omit=dev

FROM node:24-bookworm-slim
ENV NODE_ENV=production \
    BOBBIN_DATA=/var/lib/bobbin \
    BOBBIN_LISTEN=0.0.0.0:8025
WORKDIR /opt/bobbin
COPY --from=build /src/package.json /src/LICENSE /src/README.md ./
COPY --from=build /src/node_modules ./node_modules
COPY --from=build /src/dist ./dist
COPY --from=build /src/docs ./docs
COPY --from=build /src/contrib/healthcheck.mjs ./contrib/
RUN ln -s /opt/bobbin/dist/src/main.js /usr/local/bin/bobbin \
    && chmod 755 /opt/bobbin/dist/src/main.js \
    && install -d -o node -g node -m 0750 /var/lib/bobbin
USER node
VOLUME /var/lib/bobbin
EXPOSE 8025
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["node", "/opt/bobbin/contrib/healthcheck.mjs"]
ENTRYPOINT ["bobbin"]
CMD ["serve"]
