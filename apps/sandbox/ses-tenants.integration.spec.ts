import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  BadRequestException,
  CreateConfigurationSetCommand,
  DeleteEmailIdentityCommand,
  SESv2Client,
} from '@aws-sdk/client-sesv2';
import { Logger } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { createApp } from '@app/process';
import { adoptedTag, SesDenied, SesUnavailable } from '@app/ses';
import { SesWriter, teamIdTag } from '@app/ses-writer';
import { atOnce } from '../../test/support/turns';
import { SandboxModule } from './sandbox.module';

const region = 'eu-west-1';
const tenantConfigurationSet = 'customers';

/** A process that dies just before or just after one of its calls has taken effect. */
class MortalWriter extends SesWriter {
  calls = 0;

  /** @param diesAt the number of the moment, of which each call has two; it lives on when absent. */
  constructor(
    endpoint: string,
    diesAt?: number,
    options: { readonly tenantConfigurationSet?: string | undefined } = {},
  ) {
    super({ region, endpoint, timeoutMs: 2_000, tenantConfigurationSet, ...options }, atOnce);
    const send = this.client.send.bind(this.client) as (...given: unknown[]) => Promise<unknown>;
    const mortal = async (...given: unknown[]) => {
      if (2 * this.calls + 1 === diesAt) throw new Error('dead');
      const answer = await send(...given);
      if (2 * ++this.calls === diesAt) throw new Error('dead');
      return answer;
    };
    Object.assign(this.client, { send: mortal });
  }
}

describe('tenants of the sandbox’s SES', () => {
  const directory = mkdtempSync(join(tmpdir(), 'sandbox-'));
  let app: NestFastifyApplication;
  let url: string;
  let client: SESv2Client;
  let count = 0;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    process.env.AWS_ACCESS_KEY_ID ??= 'test';
    process.env.AWS_SECRET_ACCESS_KEY ??= 'test';
    const module = SandboxModule.forRoot({ host: '127.0.0.1', dohPort: 0, smtpPort: 0, directory, logLevel: 'silent' });
    app = await createApp({ host: '127.0.0.1', port: 0, module });
    await app.listen(0, '127.0.0.1');
    url = `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}`;
    client = new SESv2Client({ region, endpoint: url });
    await client.send(new CreateConfigurationSetCommand({ ConfigurationSetName: tenantConfigurationSet }));
  });
  afterAll(async () => {
    client.destroy();
    await app.close();
    rmSync(directory, { recursive: true });
  });

  interface Tenant {
    readonly name: string;
    readonly tags: readonly object[];
    readonly resources: Record<string, number>;
  }
  /** What a tenant has, by the ends of the ARNs; undefined where there is none. */
  const resourcesOf = async (team: string) => {
    const tenants = (await (await fetch(`${url}/ses/tenants`)).json()) as Tenant[];
    const tenant = tenants.find(({ name }) => name === team);
    return tenant && Object.keys(tenant.resources).map((arn) => arn.split(':').at(-1));
  };
  const fault = (body: object) =>
    fetch(`${url}/faults/ses`, {
      method: 'PUT',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    });
  const whole = (name: string) => [`configuration-set/${tenantConfigurationSet}`, `identity/${name}`];
  /** A name and a team that nobody has. */
  const fresh = () => {
    count += 1;
    return { name: `t${count}.acme.com`, team: `team_${count}` };
  };
  /** Runs work in a process that dies at each moment, and then in another one. Gives the number of moments. */
  async function withADeathAtEveryMoment(work: (writer: SesWriter, at: number) => Promise<void>): Promise<number> {
    for (let at = 1; ; at++) {
      const mortal = new MortalWriter(url, at);
      const isDead = await work(mortal, at).then(
        () => false,
        () => true,
      );
      mortal.close();
      const another = new MortalWriter(url);
      await work(another, at);
      another.close();
      if (!isDead) return at - 1;
    }
  }

  it('are made whole for the first domain of a team, wherever the process dies, and taken as they are for the next', async () => {
    const names: [string, string][] = [];
    const enter = async (writer: SesWriter, at: number) => {
      const [name, team] = (names[at] ??= [fresh().name, `team_first_${at}`]);
      expect(await writer.joinTenant(await writer.create(name, 'mdom_1'), team)).toBe(team);
    };
    // The identity, the tenant, and its two resources.
    expect(await withADeathAtEveryMoment(enter)).toBe(8);
    for (const [name, team] of names.slice(1)) expect(await resourcesOf(team)).toEqual(whole(name));

    const { team } = fresh();
    const writer = new MortalWriter(url);
    const callsOf = async () => {
      const before = writer.calls;
      await writer.joinTenant(await writer.create(fresh().name, 'mdom_1'), team);
      return writer.calls - before;
    };
    expect([await callsOf(), await callsOf()]).toEqual([4, 2]);
    writer.close();
  });

  it('have another configuration set before an identity uses it, wherever the process dies', async () => {
    const renamed = { tenantConfigurationSet: 'renamed' };
    await client.send(new CreateConfigurationSetCommand({ ConfigurationSetName: 'renamed' }));
    const own = new MortalWriter(url);
    for (let at = 1, isDead = true; isDead; at++) {
      const { name, team } = fresh();
      await own.joinTenant(await own.create(name, 'mdom_1'), team);
      const mortal = new MortalWriter(url, at, renamed);
      const identity = (await own.get(name))!;
      isDead = await mortal.joinTenant(identity, team).then(
        () => false,
        () => true,
      );
      mortal.close();
      const used = (await own.get(name))!.configurationSet!;
      expect(await resourcesOf(team)).toContain(`configuration-set/${used}`);
      if (!isDead) expect(used).toBe('renamed');
    }
    own.close();
  });

  it('an identity leaves them before it is deleted, wherever the process dies', async () => {
    const names: { name: string; team: string }[] = [];
    const remove = async (writer: SesWriter, at: number) => {
      const { name, team } = (names[at] ??= fresh());
      const other = new MortalWriter(url);
      if (!(await resourcesOf(team))) await other.joinTenant(await other.create(name, 'mdom_1'), team);
      other.close();
      await writer.delete(name);
      expect(await writer.get(name)).toBeNull();
    };
    await withADeathAtEveryMoment(remove);
    // The tenant stays, with what SES knows of its reputation.
    for (const { team } of names.slice(1)) expect(await resourcesOf(team)).toEqual(whole('').slice(0, 1));
  });

  it('an identity leaves them too where the settings have none any more, and SES refuses to delete it', async () => {
    const { name, team } = fresh();
    const before = new MortalWriter(url);
    await before.joinTenant(await before.create(name, 'mdom_1'), team);
    before.close();
    await expect(client.send(new DeleteEmailIdentityCommand({ EmailIdentity: name }))).rejects.toThrow(
      BadRequestException,
    );
    const without = new MortalWriter(url, undefined, { tenantConfigurationSet: undefined });
    expect(await without.joinTenant((await without.get(name))!, team)).toBeUndefined();
    await without.delete(name);
    expect(await without.get(name)).toBeNull();
    without.close();
  });

  it('takes an identity from before, and an adopted one only where it has the configuration set', async () => {
    const without = new MortalWriter(url, undefined, { tenantConfigurationSet: undefined });
    const [ours, adopted] = [fresh(), fresh()];
    expect((await without.create(ours.name, 'mdom_1')).configurationSet).toBeNull();
    await without.create(adopted.name, adoptedTag);
    without.close();
    const writer = new MortalWriter(url);
    expect(await writer.joinTenant((await writer.get(ours.name))!, ours.team)).toBe(ours.team);
    expect((await writer.get(ours.name))!.configurationSet).toBe(tenantConfigurationSet);
    const theirs = (await writer.get(adopted.name))!;
    expect(await writer.joinTenant(theirs, adopted.team)).toBeUndefined();
    expect((await writer.get(adopted.name))!.configurationSet).toBeNull();
    const allowed = { ...theirs, configurationSet: tenantConfigurationSet };
    expect(await writer.joinTenant(allowed, adopted.team)).toBe(adopted.team);
    writer.close();
  });

  it('are made anew where an operator has deleted one meanwhile', async () => {
    const { name, team } = fresh();
    const writer = new MortalWriter(url);
    const identity = await writer.create(name, 'mdom_1');
    await writer.joinTenant(identity, team);
    const operator = new MortalWriter(url);
    expect([await operator.deleteTenant(team), await operator.deleteTenant(team)]).toEqual([true, false]);
    operator.close();
    await expect(writer.joinTenant(identity, team)).rejects.toThrow(SesUnavailable);
    expect(await writer.joinTenant(identity, team)).toBe(team);
    expect(await resourcesOf(team)).toEqual(whole(name));
    const tenants = (await (await fetch(`${url}/ses/tenants`)).json()) as Tenant[];
    expect(tenants.find((tenant) => tenant.name === team)!.tags).toEqual([{ Key: teamIdTag, Value: team }]);
    writer.close();
  });

  it.each([
    ['without the permission', { mode: 'deny', operations: ['CreateTenant'] }],
    ['that may have no more', { mode: 'full', operations: ['CreateTenant'] }],
  ])('are refused by an account %s, which is our fault', async (_, body) => {
    const { name, team } = fresh();
    const writer = new MortalWriter(url);
    const identity = await writer.create(name, 'mdom_1');
    await fault({ ...body, times: 1 });
    await expect(writer.joinTenant(identity, team)).rejects.toThrow(SesDenied);
    writer.close();
  });

  it('need a configuration set that is there, which is our fault', async () => {
    const writer = new MortalWriter(url, undefined, { tenantConfigurationSet: 'missing' });
    await expect(writer.create(fresh().name, 'mdom_1')).rejects.toThrow(SesDenied);
    writer.close();
  });
});
