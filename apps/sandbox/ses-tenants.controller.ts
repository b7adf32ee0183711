import { randomBytes } from 'node:crypto';
import { Body, Controller, Get, Post, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { SesOperation } from './faults';
import { account, alreadyExists, badRequest, notFound, SesCalls } from './ses-calls';
import { identityKey, SandboxState, type StoredTenant } from './state';

const TenantName = z.string().regex(/^[\w-]{1,64}$/, 'may have letters, digits, dashes and underscores, 64 at most');
const ResourceArn = z.string().regex(/^arn:aws:ses:[a-z0-9-]+:\d{12}:(identity|configuration-set)\/[\w.-]+$/);
const paging = { PageSize: z.int().min(1).max(1_000).default(100), NextToken: z.string().optional() };
const bodies = {
  name: z.object({ TenantName }),
  tenant: z.object({ TenantName, Tags: z.array(z.object({ Key: z.string(), Value: z.string() })).default([]) }),
  association: z.object({ TenantName, ResourceArn }),
  resource: z.object({ ResourceArn, ...paging }),
  page: z.object(paging),
  configurationSet: z.object({ ConfigurationSetName: z.string().regex(/^[\w-]{1,64}$/) }),
};

/** Gives the ARN of what a Region has. */
export const arnIn = (region: string, kind: 'identity' | 'configuration-set', name: string): string =>
  `arn:aws:ses:${region}:${account}:${kind}/${name}`;

/** Gives the tenants of a Region, by their names. */
export const tenantsIn = (state: SandboxState, region: string): StoredTenant[] =>
  Object.values(state.data.tenants)
    .filter((tenant) => tenant.region === region)
    .sort((a, b) => (a.name < b.name ? -1 : 1));

const now = (): number => Date.now() / 1_000;
const arnOf = ({ region, name, id }: StoredTenant): string => `arn:aws:ses:${region}:${account}:tenant/${name}/${id}`;

/** Gives a page of what comes after a token, which is a name. */
function pageOf<Item>(
  items: Item[],
  nameOf: (item: Item) => string,
  { PageSize, NextToken = '' }: Page,
): [Item[], object] {
  const rest = items.filter((item) => nameOf(item) > NextToken);
  const page = rest.slice(0, PageSize);
  return [page, page.length < rest.length ? { NextToken: nameOf(page.at(-1)!) } : {}];
}
type Page = z.output<typeof bodies.page>;

/**
 * Serves the operations of the SES v2 API about tenants, and the creation of configuration sets. The deletion of an
 * association that is not there succeeds, and that of a tenant takes its associations with it, as it does at AWS.
 */
@Controller()
export class SesTenantsController {
  constructor(
    private readonly state: SandboxState,
    private readonly calls: SesCalls,
  ) {}

  @Post('v2/email/configuration-sets')
  createConfigurationSet(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply) {
    const act = (region: string, { ConfigurationSetName: name }: z.output<typeof bodies.configurationSet>) => {
      const { configurationSets } = this.state.data;
      const key = identityKey(region, name);
      if (configurationSets.includes(key)) throw alreadyExists(`Configuration set <${name}> already exists.`);
      configurationSets.push(key);
      return {};
    };
    return this.play('CreateConfigurationSet', bodies.configurationSet, body, request, reply, act);
  }

  @Post('v2/email/tenants')
  create(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply) {
    return this.play(
      'CreateTenant',
      bodies.tenant,
      body,
      request,
      reply,
      (region, { TenantName: name, Tags: tags }) => {
        const key = identityKey(region, name);
        if (Object.hasOwn(this.state.data.tenants, key)) throw alreadyExists(`Tenant <${name}> already exists.`);
        const id = `tn-${randomBytes(15).toString('hex')}`;
        const tenant: StoredTenant = { region, name, id, createdAt: now(), tags, resources: {} };
        this.state.data.tenants[key] = tenant;
        return described(tenant);
      },
    );
  }

  @Post('v2/email/tenants/get')
  get(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply) {
    return this.play('GetTenant', bodies.name, body, request, reply, (region, { TenantName: name }) => ({
      Tenant: described(this.tenant(region, name)),
    }));
  }

  @Post('v2/email/tenants/delete')
  delete(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply) {
    return this.play('DeleteTenant', bodies.name, body, request, reply, (region, { TenantName: name }) => {
      this.tenant(region, name);
      delete this.state.data.tenants[identityKey(region, name)];
      return {};
    });
  }

  @Post('v2/email/tenants/list')
  list(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply) {
    return this.play('ListTenants', bodies.page, body ?? {}, request, reply, (region, page) => {
      const [tenants, more] = pageOf(tenantsIn(this.state, region), ({ name }) => name, page);
      const Tenants = tenants.map((tenant) => {
        const { Tags: _, SendingStatus: __, ...listed } = described(tenant);
        return listed;
      });
      return { Tenants, ...more };
    });
  }

  @Post('v2/email/resources/tenants/list')
  listOfResource(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply) {
    return this.play(
      'ListResourceTenants',
      bodies.resource,
      body,
      request,
      reply,
      (region, { ResourceArn, ...page }) => {
        this.assertResource(region, ResourceArn);
        const having = tenantsIn(this.state, region).filter(({ resources }) => Object.hasOwn(resources, ResourceArn));
        const [tenants, more] = pageOf(having, ({ name }) => name, page);
        const ResourceTenants = tenants.map(({ name, id, resources }) => ({
          TenantName: name,
          TenantId: id,
          ResourceArn,
          AssociatedTimestamp: resources[ResourceArn],
        }));
        return { ResourceTenants, ...more };
      },
    );
  }

  @Post('v2/email/tenants/resources')
  associate(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply) {
    const act = (region: string, { TenantName: name, ResourceArn }: z.output<typeof bodies.association>) => {
      const { resources } = this.tenant(region, name);
      this.assertResource(region, ResourceArn);
      if (Object.hasOwn(resources, ResourceArn))
        throw alreadyExists(`Resources ${ResourceArn} has already been associated with tenant ${name}`);
      resources[ResourceArn] = now();
      return {};
    };
    return this.play('CreateTenantResourceAssociation', bodies.association, body, request, reply, act);
  }

  @Post('v2/email/tenants/resources/delete')
  dissociate(@Body() body: unknown, @Req() request: FastifyRequest, @Res() reply: FastifyReply) {
    const act = (region: string, { TenantName: name, ResourceArn }: z.output<typeof bodies.association>) => {
      delete this.tenant(region, name).resources[ResourceArn];
      return {};
    };
    return this.play('DeleteTenantResourceAssociation', bodies.association, body, request, reply, act);
  }

  /** Lists all tenants with their resources. Not part of the SES API. */
  @Get('ses/tenants')
  all(): unknown {
    return Object.values(this.state.data.tenants);
  }

  private async play<Schema extends z.ZodType>(
    operation: SesOperation,
    schema: Schema,
    body: unknown,
    request: FastifyRequest,
    reply: FastifyReply,
    act: (region: string, parsed: z.output<Schema>) => object,
  ): Promise<void> {
    const parsed = schema.safeParse(body);
    const named = (body ?? {}) as { readonly TenantName?: unknown };
    const name = typeof named.TenantName === 'string' ? named.TenantName : '';
    await this.calls.play(operation, name, request, reply, (region) => {
      if (!parsed.success) throw badRequest(parsed.error);
      const answer = act(region, parsed.data);
      this.state.changed();
      return answer;
    });
  }

  private tenant(region: string, name: string): StoredTenant {
    const key = identityKey(region, name);
    const { tenants } = this.state.data;
    if (!Object.hasOwn(tenants, key)) throw notFound(`The requested tenant <${name}> does not exist.`);
    return tenants[key]!;
  }

  private assertResource(region: string, arn: string): void {
    const name = arn.slice(arn.indexOf('/') + 1);
    const { identities, configurationSets } = this.state.data;
    const isThere =
      (arn === arnIn(region, 'identity', name) && Object.hasOwn(identities, identityKey(region, name))) ||
      (arn === arnIn(region, 'configuration-set', name) && configurationSets.includes(identityKey(region, name)));
    if (!isThere) throw notFound(`The requested resource <${arn}> does not exist.`);
  }
}

const described = (tenant: StoredTenant) => ({
  TenantName: tenant.name,
  TenantId: tenant.id,
  TenantArn: arnOf(tenant),
  CreatedTimestamp: tenant.createdAt,
  Tags: tenant.tags,
  SendingStatus: 'ENABLED',
});
