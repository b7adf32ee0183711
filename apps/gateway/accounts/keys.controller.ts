import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query, Req, Res } from '@nestjs/common';
import { ApiBearerAuth, ApiBody, ApiOperation, ApiParam, ApiTags } from '@nestjs/swagger';
import { Accounts, type Caller, type Grant } from '@app/accounts';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from '../http/api-error';
import { CurrentCaller, Requires } from '../http/api-key.guard';
import { ApiErrors, ApiSuccess } from '../http/openapi';
import { lastOfPageBefore, PageQuery, pageOf } from '../http/paging';
import { success } from '../http/success';
import * as examples from './examples';
import {
  CreateKeyRequest,
  KeyEnvelope,
  keyIdForm,
  keyIdParam,
  KeyPageEnvelope,
  NewKeyEnvelope,
  presentKey,
  presentNewKey,
  RotateKeyRequest,
} from './keys.dto';

const base = '/api/v1/keys';
const location = { Location: 'The path of the key.' };

/**
 * Manages the API keys of the caller's team. A creation takes no `Idempotency-Key`: to repeat its answer, the secret
 * would have to be kept. Whoever has not got the answer revokes the key and creates another.
 */
@ApiTags('keys')
@ApiBearerAuth('apiKey')
@Controller(base)
export class KeysController {
  constructor(private readonly accounts: Accounts) {}

  @Post()
  @Requires('key.create')
  @ApiOperation({
    operationId: 'createKey',
    summary: 'Create an API key',
    description:
      'With a role, or with permissions one by one; at most with what the calling key may do itself, and until the calling key ends. The key is in this answer only. It takes no Idempotency-Key, since the key would have to be kept to repeat the answer: revoke a key whose answer you have not got.',
  })
  @ApiSuccess(201, 'Created.', NewKeyEnvelope, examples.newKey, location)
  @ApiErrors('missing_parameter', 'payload_too_large', 'unsupported_media_type', 'validation_error')
  async create(
    @Body() body: CreateKeyRequest,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const made = await this.accounts.createKey(caller.team, grantOf(body), body.name, caller);
    void reply.header('location', `${base}/${made.id}`);
    return success(presentNewKey(made), requestId);
  }

  @Get()
  @Requires('key.read')
  @ApiOperation({ operationId: 'listKeys', summary: 'List the API keys of your team, the newest first' })
  @ApiSuccess(200, 'A page of keys, revoked ones too, never with their secrets.', KeyPageEnvelope, examples.keys)
  @ApiErrors()
  async list(
    @Query() query: PageQuery,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    const keys = await this.accounts.pageOfKeys(team, query.limit + 1, lastOfPageBefore(query, keyIdForm));
    return pageOf(keys, query, requestId, presentKey);
  }

  @Get(':id')
  @Requires('key.read')
  @ApiOperation({ operationId: 'getKey', summary: 'Read an API key, without its secret' })
  @ApiParam(keyIdParam)
  @ApiSuccess(200, 'The key.', KeyEnvelope, examples.oneKey)
  @ApiErrors('not_found')
  async find(
    @Param('id') id: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentKey(await this.accounts.keyOf(team, known(id))), requestId);
  }

  @Post(':id/rotate')
  @HttpCode(201)
  @Requires('key.update')
  @ApiOperation({
    operationId: 'rotateKey',
    summary: 'Replace an API key by a new one with the same name and permissions',
    description:
      'The old key stays valid for a day, or for `overlap_seconds`, so that clients can change over. A key that may do more than the calling one cannot be rotated by it, and the new key ends with the calling one if that ends.',
  })
  @ApiParam(keyIdParam)
  @ApiBody({ type: RotateKeyRequest, required: false })
  @ApiSuccess(201, 'The new key, in this answer only.', NewKeyEnvelope, examples.newKey, location)
  @ApiErrors('not_found', 'conflict', 'payload_too_large', 'unsupported_media_type')
  async rotate(
    @Param('id') id: string,
    @Body() { overlap_seconds: overlap }: RotateKeyRequest,
    @CurrentCaller() caller: Caller,
    @Req() { id: requestId }: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<object> {
    const made = await this.accounts.rotateKey(known(id), overlap * 1_000, caller);
    void reply.header('location', `${base}/${made.id}`);
    return success(presentNewKey(made), requestId);
  }

  @Delete(':id')
  @Requires('key.delete')
  @ApiOperation({
    operationId: 'revokeKey',
    summary: 'Revoke an API key at once',
    description: 'It stays in the list, with `revoked_at`. A repeated DELETE changes nothing.',
  })
  @ApiParam(keyIdParam)
  @ApiSuccess(200, 'Revoked.', KeyEnvelope, examples.revokedKey)
  @ApiErrors('not_found', 'payload_too_large', 'unsupported_media_type')
  async revoke(
    @Param('id') id: string,
    @CurrentCaller() { team }: Caller,
    @Req() { id: requestId }: FastifyRequest,
  ): Promise<object> {
    return success(presentKey(await this.accounts.revokeKey(known(id), team)), requestId);
  }
}

/** @throws {ApiError} `invalid_parameter` unless the body has either a role or permissions. */
function grantOf({ role, permissions }: CreateKeyRequest): Grant {
  if (role !== undefined && permissions === undefined) return { role };
  if (permissions !== undefined && role === undefined) return { permissions };
  throw new ApiError('invalid_parameter', 'Send either "role" or "permissions".', { param: 'permissions' });
}

/** @throws {ApiError} `not_found` for what cannot be an id. */
function known(id: string): string {
  if (keyIdForm.test(id)) return id;
  throw new ApiError('not_found', 'There is no such key.');
}
