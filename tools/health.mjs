// The health check of the containers: ends with 0 when the app on the port is ready.
const response = await fetch(`http://127.0.0.1:${process.argv[2]}/health/ready`);
if (!response.ok) {
  console.error(await response.text());
  process.exit(1);
}
