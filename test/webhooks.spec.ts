import { Webhook } from 'standardwebhooks';
import { startEndpoint, type TestEndpoint } from './support/endpoint';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { allApps, allAppsOnKafka, startSystem, type ApiClient, type System } from './support/processes';
import { variantsOfRun } from './support/sample';

interface Message {
  readonly id: string;
  readonly type: string;
  readonly subject: string;
  readonly sequence: string;
  readonly data: {
    readonly team: string;
    readonly domain: { readonly id: string; readonly verification_status: string };
  };
}
type Body<Data> = { readonly data: Data };

/**
 * Sends events from the API to an endpoint of a customer, through all processes. Kafka is skipped where Java or Maven
 * is missing: see tools/install-counterparts.
 */
describe.each(
  variantsOfRun([
    ['the log', false],
    ['Kafka', true],
  ] as const),
)('webhooks over %s', (_transport, onKafka) => {
  if (onKafka && !kafkaIsInstalled()) return it.skip('need Java and Maven', () => undefined);

  let kafka: SharedKafka | undefined;
  let system: System;
  let api: ApiClient;
  let endpoint: TestEndpoint;
  let hook: { readonly id: string; readonly secret: string };

  beforeAll(async () => {
    kafka = onKafka ? await sharedKafka() : undefined;
    system = await startSystem({
      apps: [...(onKafka ? allAppsOnKafka : allApps), 'webhooks'],
      ...(kafka && { brokers: kafka.brokers }),
      together: 'all',
      env: { PROVISIONING_DEADLINE: '2m' },
    });
    ({ api } = await system.team());
    endpoint = await startEndpoint();
    const created = await api.call('POST', '/webhooks', { url: endpoint.url });
    expect(created.status).toBe(201);
    hook = (created.body as Body<typeof hook>).data;
  });
  afterAll(async () => {
    await system?.end();
    await endpoint?.close();
  });

  const messages = () => {
    const verified = new Webhook(hook.secret);
    return endpoint.arrivals.map(
      ({ body, headers }) => verified.verify(body, headers as Record<string, string>) as Message,
    );
  };
  const typesOf = (domain: string) => [
    ...new Set(
      messages().flatMap(({ subject, type, id }) => (subject === domain ? [`${id.split('/')[1]} ${type}`] : [])),
    ),
  ];

  it('each transition of a domain arrives once, signed and in order, with the domain as it was then', async () => {
    const added = await api.add('mail.acme.com');
    const { id } = (added.body as Body<{ id: string }>).data;
    await system.until('its creation has arrived', () => typesOf(id).length === 1);
    await system.sandbox.place(added.body);
    expect((await api.verify(id)).body).toMatchObject({ data: { status: 'verified' } });
    await system.until('its verification has arrived', () => typesOf(id).length === 2);
    expect((await api.delete(id)).status).toBe(200);
    await system.until('its deletion has arrived', () => typesOf(id).length === 3);
    const arrived = messages();
    expect(arrived.map(({ type, data }) => [type, data.domain.verification_status])).toEqual([
      ['domain.created', 'pending'],
      ['domain.verified', 'verified'],
      ['domain.deleted', 'pending'],
    ]);
    for (const { id: message, subject, data } of arrived) {
      expect(message).toMatch(new RegExp(`^${id}/\\d+$`));
      expect([subject, data.domain.id]).toEqual([id, id]);
    }
    const page = await api.call('GET', `/webhooks/${hook.id}/deliveries`);
    expect((page.body as Body<{ result: string }[]>).data.map(({ result }) => result)).toEqual(
      Array<string>(3).fill('success'),
    );
  });

  it('a test arrives although the endpoint has asked for no such type', async () => {
    endpoint.arrivals.length = 0;
    expect((await api.call('POST', `/webhooks/${hook.id}/test`)).status).toBeLessThan(300);
    await system.until('it arrives', () => endpoint.arrivals.length === 1);
    expect(messages()[0]).toMatchObject({ type: 'sendmux.test' });
  });
});
