FROM busybox
WRKDIR /app
COPY --chwon=1 a b
