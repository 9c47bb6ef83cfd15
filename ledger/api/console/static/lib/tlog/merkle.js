/**
 * The Merkle tree of RFC 6962, section 2.1: hashes, and the checks of proofs of inclusion and consistency.
 * A proof is planned as a list of ranges of leaves, numbered from 0; it has one hash for each.
 */

import { ProofError, areEqual, concatenate, sha256 } from "./encoding.js";

/** @typedef {import("./encoding.js").Bytes} Bytes */
/** @typedef {[begin: number, end: number]} Leaves from `begin` up to `end`, without `end` */

/** @param {Bytes} entry @returns {Promise<Bytes>} the hash of the leaf that holds it */
export function hashLeaf(entry) {
  return sha256(concatenate(Uint8Array.of(0), entry));
}

/**
 * @param {Uint8Array} left
 * @param {Uint8Array} right
 * @returns {Promise<Bytes>} that of the node above them
 */
export function hashChildren(left, right) {
  return sha256(concatenate(Uint8Array.of(1), left, right));
}

/** @param {number} count more than 1 @returns {number} the largest power of two below it */
function split(count) {
  let power = 1;
  while (power * 2 < count) power *= 2;
  return power;
}

/**
 * The ranges that prove that the leaf `index` is in a tree, from its sibling upwards (PATH in the RFC).
 * @param {number} index @param {number} size @returns {Leaves[]}
 */
function planInclusion(index, size) {
  /** @type {Leaves[]} */
  const path = [];
  let [begin, end] = [0, size];
  while (end - begin > 1) {
    const middle = begin + split(end - begin);
    if (index < middle) {
      path.push([middle, end]);
      end = middle;
    } else {
      path.push([begin, middle]);
      begin = middle;
    }
  }
  return path.reverse();
}

/**
 * The ranges that prove that a tree begins with the tree of `oldSize` leaves (PROOF in the RFC).
 * @param {number} oldSize @param {number} size @returns {Leaves[]}
 */
function planConsistency(oldSize, size) {
  if (oldSize === 0 || oldSize === size) return [];
  /** @type {Leaves[]} */
  const path = [];
  let [begin, end] = [0, size];
  while (oldSize !== end) {
    const middle = begin + split(end - begin);
    if (oldSize <= middle) {
      path.push([middle, end]);
      end = middle;
    } else {
      path.push([begin, middle]);
      begin = middle;
    }
  }
  if (begin) path.push([begin, end]);
  return path.reverse();
}

/**
 * The hashes of a proof with the ranges that they are of.
 * @param {Leaves[]} plan @param {Bytes[]} proof @returns {{ begin: number, end: number, hash: Bytes }[]}
 * @throws {ProofError}
 */
function pair(plan, proof) {
  if (plan.length !== proof.length) {
    throw new ProofError(`the proof has ${proof.length} hashes instead of ${plan.length}`);
  }
  return proof.map((hash, place) => {
    const [begin, end] = /** @type {Leaves} */ (plan[place]);
    return { begin, end, hash };
  });
}

/**
 * Check that the leaf is number `index` of the tree with this root.
 * @param {Bytes} leafHash @param {number} index @param {number} size @param {Bytes[]} proof @param {Bytes}
 *   root
 * @throws {ProofError}
 */
export async function checkInclusion(leafHash, index, size, proof, root) {
  if (!(index >= 0 && index < size)) throw new ProofError(`the tree of ${size} leaves has no leaf ${index}`);
  let result = leafHash;
  for (const { begin, hash } of pair(planInclusion(index, size), proof)) {
    result = begin < index ? await hashChildren(hash, result) : await hashChildren(result, hash);
  }
  if (!areEqual(result, root)) {
    throw new ProofError(`the leaf ${index} is not in the tree of ${size} leaves with this root`);
  }
}

/**
 * Check that the tree of `size` leaves begins with the tree of `oldSize` leaves.
 * @param {number} oldSize @param {Bytes} oldRoot @param {number} size @param {Bytes} root @param {Bytes[]}
 *   proof
 * @throws {ProofError}
 */
export async function checkConsistency(oldSize, oldRoot, size, root, proof) {
  if (oldSize > size) throw new ProofError(`the tree shrank from ${oldSize} to ${size} leaves`);
  const hashes = pair(planConsistency(oldSize, size), proof);
  if (!(await isConsistent(oldSize, oldRoot, size, root, hashes))) {
    throw new ProofError(`the tree of ${size} leaves does not begin with the tree of ${oldSize} leaves`);
  }
}

/**
 * @param {number} oldSize @param {Bytes} oldRoot @param {number} size @param {Bytes} root
 * @param {{ begin: number, end: number, hash: Bytes }[]} hashes
 */
async function isConsistent(oldSize, oldRoot, size, root, hashes) {
  if (oldSize === 0) return areEqual(oldRoot, await sha256(new Uint8Array()));
  const [first] = hashes;
  if (oldSize === size || !first) return areEqual(oldRoot, root);
  // Without a hash that ends where the old tree does, that tree is one complete node, which its root names.
  const isGiven = first.end === oldSize && first.begin > 0;
  let [oldResult, newResult] = isGiven ? [first.hash, first.hash] : [oldRoot, oldRoot];
  for (const { begin, hash } of isGiven ? hashes.slice(1) : hashes) {
    if (begin < oldSize) {
      oldResult = await hashChildren(hash, oldResult);
      newResult = await hashChildren(hash, newResult);
    } else {
      newResult = await hashChildren(newResult, hash);
    }
  }
  return areEqual(oldResult, oldRoot) && areEqual(newResult, root);
}
