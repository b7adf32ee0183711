import { Body, Controller, Delete, Get, HttpCode, Inject, Param, Post, Req } from '@nestjs/common';
import { ApiBearerAuth, ApiBody, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { setupMailTasks, SetupLinks, type Caller, type SetupMailTask } from '@app/accounts';
import { TaskList } from '@app/tasks';
import type { FastifyRequest } from 'fastify';
import { idParam } from '../domains/domain.dto';
import { Domains } from '../domains/domains.service';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { PublicUrl } from '../http/public-url';
import { success } from '../http/success';
import * as examples from './examples';
import {
  CreateSetupLinkRequest,
  NewSetupLinkEnvelope,
  presentNewSetupLink,
  presentSentInstructions,
  presentSetupLink,
  RevokedSetupLinkEnvelope,
  SendSetupInstructionsRequest,
  SentInstructionsEnvelope,
  SetupLinksEnvelope,
} from './setup-links.dto';

/**
 * Manages the links with which somebody without an API key sets up one domain: reads its records, and verifies it. The
 * notifier mails them.
 */
@ApiTags('setup')
@ApiBearerAuth('apiKey')
@Controller('/api/v1/domains')
export class SetupLinksController {
  constructor(
    @Inject(Domains) private readonly domains: Domains,
    private readonly links: SetupLinks,
    private readonly tasks: TaskList,
    @Inject(PublicUrl) private readonly publicUrl: PublicUrl,
  ) {}

  @Post(':id/setup-link')
  @Requires('domain.verify')
  @ApiOperation({
    operationId: 'createSetupLink',
    summary: 'Create a link with which somebody else sets up the domain',
    description:
      'For whoever edits the DNS: the page behind it shows the records and verifies the domain, without an API key, and tells nothing else of your team. 20 links of a domain may be open at a time.',
  })
  @ApiParam(idParam)
  @ApiBody({ type: CreateSetupLinkRequest, required: false })
  @ApiSuccess(201, 'The link. It cannot be read again.', NewSetupLinkEnvelope, examples.newSetupLink)
  @ApiErrors('not_found', 'conflict', 'limit_exceeded', 'payload_too_large', 'unsupported_media_type')
  async create(
    @Param('id') id: string,
    @Body() { expires_in_days: days }: CreateSetupLinkRequest,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const domain = await this.domains.findLasting(id, team);
    const link = await this.links.create(team, domain.id, days);
    return success(presentNewSetupLink(link, this.publicUrl.href), requestId);
  }

  @Post(':id/setup-instructions')
  @HttpCode(202)
  @Requires('domain.verify')
  @ApiOperation({
    operationId: 'sendSetupInstructions',
    summary: 'Mail a setup link and the DNS records to somebody',
    description:
      'Mailed within moments, with the records in plain text. The mail names the domain, and nothing else of your team. Five mails for a domain, and 20 of a team, are sent within an hour at most.',
  })
  @ApiParam(idParam)
  @ApiSuccess(202, 'The mail is on its way.', SentInstructionsEnvelope, examples.sentInstructions)
  @ApiErrors(
    'missing_parameter',
    'not_found',
    'conflict',
    'limit_exceeded',
    'payload_too_large',
    'unsupported_media_type',
    'validation_error',
  )
  async send(
    @Param('id') id: string,
    @Body() { email }: SendSetupInstructionsRequest,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const domain = await this.domains.findLasting(id, team);
    const link = await this.links.createForMail(team, domain.id, email, async (made, client) => {
      const task: SetupMailTask = { id: made.id };
      await this.tasks.put(setupMailTasks, made.id, 'Mail', task, undefined, client);
    });
    return success(presentSentInstructions(link), requestId);
  }

  @Get(':id/setup-links')
  @Requires('domain.verify')
  @ApiOperation({ operationId: 'listSetupLinks', summary: 'List the open setup links of a domain, the newest first' })
  @ApiParam(idParam)
  @ApiSuccess(200, 'The open links, without their addresses.', SetupLinksEnvelope, examples.setupLinks)
  @ApiErrors('not_found')
  async list(
    @Param('id') id: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const domain = await this.domains.find(id, team);
    return success((await this.links.list(team, domain.id)).map(presentSetupLink), requestId);
  }

  @Delete(':id/setup-links/:link')
  @Requires('domain.verify')
  @ApiOperation({ operationId: 'revokeSetupLink', summary: 'Revoke a setup link' })
  @ApiParam(idParam)
  @ApiParam({ name: 'link', example: 'slnk_clxxxxxxxxxxxxxxxxxxxxxxxxx' })
  @ApiSuccess(200, 'Revoked: it opens nothing any more.', RevokedSetupLinkEnvelope, examples.revokedSetupLink)
  @ApiErrors('not_found', 'payload_too_large', 'unsupported_media_type')
  async revoke(
    @Param('id') id: string,
    @Param('link') link: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const domain = await this.domains.find(id, team);
    // PostgreSQL text cannot contain NUL, and no id has one.
    await this.links.revoke(team, domain.id, link.replaceAll('\0', ''));
    return success({ deleted: true, id: link }, requestId);
  }
}
